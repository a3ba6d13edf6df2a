package postgres

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"repld/dblog/dblogtest"
	"repld/dblog/postgres/postgrestest"
)

// TestMain runs more tests at once than there are cores: they wait for servers most
// of the time.
func TestMain(m *testing.M) {
	dblogtest.Parallel("10")
	os.Exit(postgrestest.Main(m))
}

// pair is a primary and a replica, with everything between them.
type pair struct {
	*dblogtest.Link

	t       testing.TB
	dir     string
	primary *postgrestest.Server
	source  *Source
	gate    *Gate
	replica *postgrestest.Server

	options gateChange
	holding *dblogtest.Task
}

type gateChange func(*GateOptions)

// newPair makes a primary and a seeded replica of it at a first barrier.
func newPair(t testing.TB, change gateChange, options ...string) *pair {
	t.Helper()
	p := unseeded(t, change, options...)
	p.seed()
	p.Barrier()
	return p
}

func unseeded(t testing.TB, change gateChange, options ...string) *pair {
	t.Helper()
	p := &pair{t: t, dir: postgrestest.Dir(t), options: change}
	p.primary = postgrestest.New(t, options...)
	must(t, os.Chmod(p.dir, 0o711))
	p.Link = dblogtest.NewLink(t, dblogtest.LinkOptions{
		WindowDir: filepath.Join(p.dir, "window"), SpoolDir: filepath.Join(p.dir, "spool"), Show: show,
		Within: 15 * time.Second, Warm: true,
	})
	p.newSource(p.primary)
	p.openGate()
	t.Cleanup(func() {
		p.Break()
		p.closeGate()
		p.source.Close()
		p.Link.Close()
	})
	return p
}

func (p *pair) newSource(s *postgrestest.Server) {
	p.t.Helper()
	var err error
	p.source, err = NewSource(SourceOptions{Name: "db", DSN: s.DSN(), Slot: "repld_db", DataDir: s.Data, Spool: p.Window})
	must(p.t, err)
	p.From(p.source)
}

func (p *pair) replicaData() string { return filepath.Join(p.dir, "replica") }

func (p *pair) openGate() {
	p.t.Helper()
	uid, _ := postgrestest.IDs(p.t)
	o := GateOptions{
		Name: "db", Dir: p.dir, Spool: p.Spool, SocketDir: p.dir, Port: 6000, Users: []uint32{uint32(uid)},
		ReplicaDSN: fmt.Sprintf("host=%s user=postgres dbname=postgres", p.dir), Slot: "repld_db",
	}
	if p.options != nil {
		p.options(&o)
	}
	var err error
	p.gate, err = OpenGate(o)
	must(p.t, err)
	p.To(p.gate)
	p.holding = dblogtest.Start(p.gate.Hold)
	if o.Listen != "" {
		eventually(p.t, "the gate listens", func() bool { return p.gate.Addr() != nil })
		return
	}
	eventually(p.t, "the gate's socket", func() bool {
		_, err := os.Lstat(filepath.Join(p.dir, ".s.PGSQL.6000"))
		return err == nil
	})
}

func (p *pair) closeGate() {
	if p.holding != nil {
		p.holding.Stop()
		p.gate.Close()
		p.holding = nil
	}
}

// seed makes the replica and starts it.
func (p *pair) seed() {
	p.t.Helper()
	_, err := p.source.Prepare(p.t.Context())
	must(p.t, err)
	p.Connect()
	r, w := io.Pipe()
	var backup Backup
	go func() {
		var err error
		backup, err = p.source.BaseBackup(p.t.Context(), w)
		w.CloseWithError(err)
	}()
	uid, gid := postgrestest.IDs(p.t)
	conninfo, passfile := p.gate.Conninfo(p.replicaData())
	must(p.t, Restore(r, RestoreOptions{DataDir: p.replicaData(), UID: uid, GID: gid, Conninfo: conninfo, Passfile: passfile}))
	_, err = io.Copy(io.Discard, r) // the end comes behind the archive
	must(p.t, err)
	must(p.t, p.gate.Seeded(backup))
	p.replica = postgrestest.At(p.t, p.replicaData())
	own(p.t, p.dir)
	p.replica.Launch()
}

func own(t testing.TB, dir string) {
	t.Helper()
	uid, gid := postgrestest.IDs(t)
	must(t, os.Chown(dir, uid, gid))
}

// The assertions are those of all engines.
var (
	must          = dblogtest.Must
	wantErr       = dblogtest.WantErr
	wantCondition = dblogtest.WantCondition
	eventually    = dblogtest.Eventually
)
