package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/change"
	"repld/internal/pairtest"
)

// TestSQLite: a database that is files needs nothing but the barrier. At each one the
// standby's copy opens, is sound, and has the rows of the files that are there, in both
// ways in which SQLite keeps its journal; also after the primary was killed.
func TestSQLite(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			s := &sqlitePair{seed: seeded(t), journal: journal}
			s.pair = newPair(t, s.seed)
			mkdirs(t, filepath.Join(s.from, "db"))
			rows := pairtest.SQLite{Path: filepath.Join(s.from, "db", "rows"), Journal: journal}
			if err := rows.Create(t.Context()); err != nil {
				t.Fatal(err)
			}
			load, err := pairtest.Start(t.Context(), pairtest.Options{Dir: s.from, Database: rows, Seed: s.seed,
				Writers: 2, Keep: kept, Every: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer load.Stop()
			for end := time.Now().Add(lasting(t, 0)); s.checks < 3 || time.Now().Before(end); {
				least := load.Done()
				s.settle()
				s.check(pairtest.Demand{Least: least})
				// A random moment of the next barrier.
				<-time.After(time.Duration(rand.IntN(100)) * time.Millisecond)
			}
			least := load.Done()
			s.settle()
			s.primary.kill()
			s.check(pairtest.Demand{Least: least})
			if err := load.Stop(); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations, %d checks with %d rows, %d operations in flight; %d times with a journal", load.Total(), s.checks, s.rows, s.inFlight, s.journals)
			if s.rows == 0 || journal == "wal" && s.journals == 0 {
				t.Errorf("%d rows in %d checks, %d of them with a journal", s.rows, s.checks, s.journals)
			}
		})
	}
}

// kept is how many operations of each writer stay: so many that no barrier removes half
// of the tree, at which the guard would halt.
const kept = 2000

// sqlitePair is a pair whose tree has a database in it.
type sqlitePair struct {
	*pair
	seed    uint64
	journal string

	checks, rows, inFlight, journals int
}

// check compares the standby's files with the rows of its database, of which a copy is
// opened: SQLite writes to what it opens. What doesn't match while nothing is applied
// never will; until a barrier that was being published is finished, it may.
func (s *sqlitePair) check(demand pairtest.Demand) {
	s.t.Helper()
	demand.Seed, demand.Keep = s.seed, kept
	s.standby.must("pause")
	end := time.Now().Add(heldWithin)
	for {
		id := s.applied()
		found, journal, err := s.compare(demand)
		if err == nil && s.applied() == id {
			s.checks++
			s.rows += found.Rows
			s.inFlight += found.InFlight
			if journal {
				s.journals++
			}
			break
		}
		if err != nil && time.Now().After(end) {
			s.t.Fatalf("barrier %s: %v", id, err)
		}
		<-time.After(100 * time.Millisecond)
	}
	s.standby.must("resume")
}

func (s *sqlitePair) applied() change.BarrierID {
	s.t.Helper()
	st, err := s.standby.status()
	if err != nil {
		s.t.Fatal(err)
	}
	if st.Groups[0].Barriers.Applied == nil {
		s.t.Fatal("no barrier is applied")
	}
	return st.Groups[0].Barriers.Applied.ID
}

func (s *sqlitePair) compare(demand pairtest.Demand) (found pairtest.Found, journal bool, err error) {
	dir := s.t.TempDir()
	for _, name := range []string{"rows", "rows-wal", "rows-journal"} { // the -shm is made anew from them
		content, err := os.ReadFile(filepath.Join(s.to, "db", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return found, false, err
		}
		journal = journal || name != "rows" && len(content) > 0
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return found, false, err
		}
	}
	list, err := pairtest.SQLite{Path: filepath.Join(dir, "rows"), Journal: s.journal}.Rows(s.t.Context())
	if err != nil {
		return found, journal, fmt.Errorf("the standby's database: %w", err)
	}
	found, err = pairtest.Check(s.to, list, demand)
	return found, journal, err
}
