package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"repld/control"
)

// wal brings what a PostgreSQL server has logged while the standby was away to the
// standby's disk: by repld, from when the pair is linked, and by PostgreSQL's own
// streaming, in turn. All stream from replication slots and have it durable at the end.
func wal(ctx context.Context, o options, at places, r *results, notes io.Writer) (err error) {
	w := &walBench{options: o, at: at, standby: "/none"}
	defer func() { err = errors.Join(err, w.stop()) }()
	if err := w.start(ctx); err != nil {
		return err
	}
	if err := w.makeReplica(ctx); err != nil {
		return err
	}
	programs := []walProgram{{"repld", w.byRepld}, {"pg_receivewal", w.byReceiver("")}, {"pg_receivewal --synchronous", w.byReceiver("--synchronous")}, {"a replica", w.byReplica}}
	for round := range max(3, o.rounds) {
		end, bytes, err := w.backlog(ctx)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("about %d MiB of WAL that waited", o.wal>>20)
		if round%2 == 1 {
			slices.Reverse(programs) // the machine is not the same after another
		}
		for _, program := range programs {
			before, err := loopback()
			if err != nil {
				return err
			}
			w.cpu = 0
			took, err := program.bring(ctx, end)
			if err != nil {
				return fmt.Errorf("%s: %w", program.name, err)
			}
			after, err := loopback()
			if err != nil {
				return err
			}
			r.add("wal", name, program.name, sample{Seconds: took.Seconds(), CPU: w.cpu, Wire: after - before})
			fmt.Fprintf(notes, "  %-28s %d bytes of WAL in %.2f s, %.0f MiB/s, wire %d bytes", program.name, bytes, took.Seconds(),
				float64(bytes)/(1<<20)/took.Seconds(), after-before)
			if w.cpu > 0 {
				fmt.Fprintf(notes, ", processors %.2f s", w.cpu)
			}
			fmt.Fprintln(notes)
		}
		if round%2 == 1 {
			slices.Reverse(programs)
		}
	}
	return nil
}

// walProgram brings the log up to a position to the standby's disk.
type walProgram struct {
	name  string
	bring func(ctx context.Context, end string) (time.Duration, error)
}

// walBench is a server, and a pair that replicates it.
type walBench struct {
	options
	at       places
	dir      string // of the server; its user gets there
	bin      string // of PostgreSQL
	uid, gid int
	running  bool
	replica  string      // data directory of the replica that runs
	standby  string      // where repld on the standby finds its replica's socket
	settings string      // of the group
	pair     [2]*process // by atPrimary, atStandby
	cpu      float64     // seconds of both daemons, by byRepld
	clients  [2]*control.Client
	logs     []*os.File
}

const walPort = "54329"

// program prepares one of PostgreSQL's programs, as the servers' user.
func (w *walBench) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, name), args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGHOST="+w.dir, "PGPORT="+walPort, "PGUSER=postgres", "PGDATABASE=postgres")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(w.uid), Gid: uint32(w.gid)}}
	}
	return cmd
}

func (w *walBench) do(ctx context.Context, name string, args ...string) (string, error) {
	cmd := w.program(ctx, name, args...)
	// Not a pipe: a server that pg_ctl starts would keep it open.
	out, err := os.CreateTemp(w.at.srcState, name)
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, failed := os.ReadFile(out.Name())
	if err = errors.Join(err, failed); err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return strings.TrimSpace(string(text)), err
}

func (w *walBench) sql(ctx context.Context, text string) (string, error) {
	return w.do(ctx, "psql", "-XAtqc", text)
}

// start starts the server and the pair, and seeds a replica, which isn't started.
func (w *walBench) start(ctx context.Context) error {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(dirs) == 0 {
		return errors.New("there is no PostgreSQL here: apt-get install postgresql")
	}
	w.bin = dirs[len(dirs)-1]
	w.uid, w.gid = os.Geteuid(), os.Getegid()
	name := strconv.Itoa(w.uid)
	if w.uid == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody") // the server refuses to run as root
		}
		if err != nil {
			return err
		}
		w.uid, _ = strconv.Atoi(u.Uid)
		w.gid, _ = strconv.Atoi(u.Gid)
		name = u.Username
	} else if u, err := user.Current(); err == nil {
		name = u.Username
	}
	var err error
	if w.dir, err = os.MkdirTemp(w.work, "repld-wal-"); err != nil {
		return err
	}
	if err := os.Chown(w.dir, w.uid, w.gid); err != nil {
		return err
	}
	data := filepath.Join(w.dir, "data")
	if _, err := w.do(ctx, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"); err != nil {
		return err
	}
	if _, err := w.do(ctx, "pg_ctl", "-D", data, "-l", filepath.Join(w.dir, "log"), "-w", "-o",
		fmt.Sprintf("-k %s -c port=%s -c listen_addresses=127.0.0.1 -c max_wal_size=16GB", w.dir, walPort), "start"); err != nil {
		return err
	}
	w.running = true
	return w.startPair(ctx, name)
}

func (w *walBench) startPair(ctx context.Context, owner string) error {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := pc.LocalAddr().String()
	pc.Close()
	dsn := fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", w.dir, walPort)
	for place, node := range []struct{ designated, listen, tree, state, database string }{
		atPrimary: {"primary", "127.0.0.1:0", w.at.src, w.at.srcState, fmt.Sprintf("dsn: %q", dsn)},
		atStandby: {"secondary", address, w.at.dst, w.at.dstState,
			fmt.Sprintf("dsn: %q, data_dir: %s, user: %s, socket_dir: %s", dsn+" host="+w.standby, w.at.dstState+"-replica", owner, w.at.dstState+"-gate")},
	} {
		if err := os.WriteFile(node.state+".yaml", []byte(fmt.Sprintf(`node: %s
designated: %s
listen: %q
state: %s
control: %s.sock
groups:
  - name: g
    trees: [{name: t, path: %s}]
    databases: [{name: main, postgres: {%s}}]
%s`, node.designated, node.designated, node.listen, node.state, node.state, node.tree, node.database, w.settings)), 0o644); err != nil {
			return err
		}
		w.clients[place] = control.NewClient(node.state+".sock", control.ClientOptions{})
		if err := w.startNode(ctx, place); err != nil {
			return err
		}
	}
	invited, err := w.clients[atStandby].Invite(ctx, control.InviteRequest{Address: address})
	if err != nil {
		return err
	}
	if _, err := w.clients[atPrimary].Join(ctx, control.JoinRequest{Token: invited.Token}); err != nil {
		return err
	}
	return poll(ctx, 100*time.Millisecond, func() error {
		_, err := w.clients[atStandby].SeedDatabase(ctx, control.DatabaseRequest{Name: "main"})
		return err
	})
}

func (w *walBench) startNode(ctx context.Context, place int) error {
	state := [...]string{atPrimary: w.at.srcState, atStandby: w.at.dstState}[place]
	log, err := os.OpenFile(state+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w.logs = append(w.logs, log)
	program, err := filepath.Abs(filepath.Join(w.options.bin, "repld"))
	if err != nil {
		return err
	}
	if w.pair[place], err = startProcess(log, log, program, "run", "--config", state+".yaml"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, 2*time.Millisecond, func() error {
		_, err := w.clients[place].Status(ctx)
		return err
	})
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		err = fmt.Errorf("%w\n%s", err, said[max(0, len(said)-2000):])
	}
	return err
}

// backlog stops the standby and has the server write, and returns where its log ends.
func (w *walBench) backlog(ctx context.Context) (end string, bytes uint64, err error) {
	w.pair[atStandby].terminate()
	w.pair[atStandby] = nil
	begin, err := w.sql(ctx, "SELECT pg_switch_wal(); CHECKPOINT; SELECT pg_current_wal_lsn()")
	if err != nil {
		return "", 0, err
	}
	begin = begin[strings.LastIndex(begin, "\n")+1:]
	if err := w.renewSlots(ctx); err != nil {
		return "", 0, err
	}
	// pgbench's tables and its transactions: what is loaded at once, and what changes in
	// small pieces with images of pages.
	for scale := max(1, int(w.wal>>20)/20); ; {
		if _, err := w.do(ctx, "pgbench", "-iq", "-s", strconv.Itoa(scale)); err != nil {
			return "", 0, err
		}
		if _, err := w.do(ctx, "pgbench", "-c", "2", "-t", "1000", "-n"); err != nil {
			return "", 0, err
		}
		got, err := w.sql(ctx, fmt.Sprintf("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '%s')::bigint", begin))
		if err != nil {
			return "", 0, err
		}
		if bytes, err = strconv.ParseUint(got, 10, 64); err != nil {
			return "", 0, err
		}
		if bytes >= uint64(w.wal) {
			break
		}
	}
	end, err = w.sql(ctx, "SELECT pg_current_wal_flush_lsn()")
	return end, bytes, errors.Join(err, syncFS(w.dir))
}

// byRepld starts the standby's daemon, and measures from when it has its link until the
// WAL is durable there: the primary tries to get it every few seconds only.
func (w *walBench) byRepld(ctx context.Context, end string) (time.Duration, error) {
	if err := w.startNode(ctx, atStandby); err != nil {
		return 0, err
	}
	want, err := position(end)
	if err != nil {
		return 0, err
	}
	err = poll(ctx, 2*time.Millisecond, func() error {
		st, err := w.clients[atStandby].Status(ctx)
		if err == nil && (st.Peer == nil || st.Peer.Link != control.LinkUp) {
			err = errors.New("no link")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	begun, before := time.Now(), w.pairCPU()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = poll(ctx, 10*time.Millisecond, func() error {
		list, err := w.clients[atStandby].Databases(ctx, control.DatabaseRequest{})
		if err != nil || len(list.Databases) != 1 {
			return errors.Join(errors.New("no answer"), err)
		}
		got, err := position(list.Databases[0].Received)
		if err == nil && got < want {
			err = fmt.Errorf("received up to %s, want %s", list.Databases[0].Received, end)
		}
		return err
	})
	took := time.Since(begun)
	w.cpu = w.pairCPU() - before
	return took, err
}

func (w *walBench) pairCPU() float64 {
	return processCPU(w.pair[atPrimary].pid()) + processCPU(w.pair[atStandby].pid())
}

// position reads an LSN.
func position(s string) (uint64, error) {
	high, low, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("position %q: want two hexadecimal numbers", s)
	}
	return h<<32 | l, nil
}

func (w *walBench) stop() (err error) {
	for _, p := range w.pair {
		p.terminate()
	}
	for _, c := range w.clients {
		if c != nil {
			c.Close()
		}
	}
	for _, f := range w.logs {
		f.Close()
	}
	err = w.stopReplica(context.Background())
	if w.running {
		_, failed := w.do(context.Background(), "pg_ctl", "-D", filepath.Join(w.dir, "data"), "-m", "immediate", "-w", "stop")
		err = errors.Join(err, failed)
	}
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}
