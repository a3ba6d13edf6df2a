package binlog

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/change"
	"repld/dblog/binlog/binlogtest"
	"repld/dblog/dblogtest"
)

// TestMain runs more tests at once than there are cores: they wait for servers most of
// the time.
func TestMain(m *testing.M) {
	dblogtest.Parallel("6")
	os.Exit(binlogtest.Main(m))
}

// pair is a primary and a replica, with everything between them.
type pair struct {
	*dblogtest.Link

	kind    binlogtest.Kind
	t       testing.TB
	dir     string // of the standby
	home    string // of the primary's server
	away    string // of the replica's server
	primary *binlogtest.Server
	source  *Source
	gate    *Gate
	replica *binlogtest.Server

	clones  string // where seeds are copied to
	login   string // of our own connections; "" is root's
	holding *dblogtest.Task
	tending *dblogtest.Task
}

// newPair makes a primary and a seeded replica of it at a first barrier.
func newPair(t testing.TB, k binlogtest.Kind, options ...string) *pair {
	t.Helper()
	p := unseeded(t, k, options...)
	p.seed()
	p.Barrier()
	return p
}

func unseeded(t testing.TB, k binlogtest.Kind, options ...string) *pair {
	t.Helper()
	return unseededAs(t, k, "", options...)
}

func unseededAs(t testing.TB, k binlogtest.Kind, login string, options ...string) *pair {
	t.Helper()
	p := &pair{kind: k, t: t, login: login, clones: binlogtest.Dir(t), dir: binlogtest.Dir(t), home: t.TempDir(), away: t.TempDir()}
	p.primary = k.New(t, options...)
	must(t, os.Chmod(p.dir, 0o711))
	if login != "" {
		p.primary.Exec(grants[k])
	}
	p.Link = dblogtest.NewLink(t, dblogtest.LinkOptions{
		WindowDir: filepath.Join(p.home, "window"), SpoolDir: filepath.Join(p.dir, "spool"), Show: show,
	})
	p.newSource(p.primary)
	p.replica = k.At(t, filepath.Join(p.dir, "replica"), options...)
	p.openGate()
	t.Cleanup(func() {
		p.Break()
		p.closeGate()
		p.source.Close()
		p.Link.Close()
	})
	return p
}

// grants are what the documentation says.
var grants = map[binlogtest.Kind]string{
	binlogtest.MariaDB: `CREATE USER repld@localhost IDENTIFIED BY 'it''s "a" \\secret';
		GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE, REPLICATION SLAVE ADMIN,
			REPLICATION MASTER ADMIN, SLAVE MONITOR, READ_ONLY ADMIN ON *.* TO repld@localhost`,
	binlogtest.MySQL: `CREATE USER repld@localhost IDENTIFIED BY 'it''s "a" \\secret';
		GRANT RELOAD, PROCESS, SELECT, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO repld@localhost;
		GRANT BACKUP_ADMIN, REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* TO repld@localhost`,
}

func (p *pair) dsn(s *binlogtest.Server) string {
	if p.login == "" {
		return s.DSN()
	}
	return p.login + "@unix(" + s.Socket + ")/"
}

func (p *pair) newSource(s *binlogtest.Server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Kind: Kind(p.kind), Name: "db", DSN: p.dsn(s), CloneDir: p.clones, Spool: p.Window, Dir: p.home})
	must(p.t, err)
	p.From(p.source)
}

func (p *pair) openGate() {
	p.t.Helper()
	var err error
	must(p.t, os.MkdirAll(p.away, 0o700))
	p.gate, err = OpenGate(GateOptions{Kind: Kind(p.kind), Name: "db", Dir: p.dir, Home: p.away, Spool: p.Spool, ReplicaDSN: p.dsn(p.replica)})
	must(p.t, err)
	p.To(p.gate)
	g := p.gate
	p.holding = dblogtest.Start(g.Hold)
	p.tending = dblogtest.Start(func(ctx context.Context) error { return g.Watch(ctx, time.Second) })
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.tending.Stop()
		p.holding.Stop()
		p.gate.Close()
		p.holding = nil
	}
}

// seed makes the replica and starts it.
func (p *pair) seed() {
	p.t.Helper()
	r, w := io.Pipe()
	var tail []byte
	go func() {
		made, err := p.source.Backup(p.t.Context(), w)
		if err == nil {
			tail, err = json.Marshal(made)
		}
		w.CloseWithError(err)
	}()
	uid, gid := binlogtest.IDs(p.t)
	made, err := Restore(p.t.Context(), r, RestoreOptions{Kind: Kind(p.kind), DataDir: p.replica.Data, UID: uid, GID: gid})
	must(p.t, err)
	_, err = io.Copy(io.Discard, r)
	must(p.t, err)
	var told Backup
	must(p.t, json.Unmarshal(tail, &told))
	if made.End.IsZero() {
		made.End = told.End
	}
	must(p.t, p.gate.Seeded(made))
	p.Connect()
	p.replica.Launch()
}

// forEach runs a test with each kind of server.
func forEach(t *testing.T, test func(t *testing.T, k binlogtest.Kind)) {
	t.Parallel()
	for _, k := range []binlogtest.Kind{binlogtest.MariaDB, binlogtest.MySQL} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			k.Program(t, k.Daemon())
			test(t, k)
		})
	}
}

// The assertions are those of all engines.
var (
	must          = dblogtest.Must
	wantErr       = dblogtest.WantErr
	wantCondition = dblogtest.WantCondition
	wantText      = dblogtest.WantText
	eventually    = dblogtest.Eventually
)

var barrierID = change.BarrierID{Epoch: 1, Seq: 1}
