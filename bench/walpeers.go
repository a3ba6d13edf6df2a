package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// walSlots are those of PostgreSQL's programs, by their options.
var walSlots = map[string]string{"": "bench", "--synchronous": "bench_synchronous"}

const replicaName = "bench_replica" // of slot and connection

// renewSlots has the slots begin here.
func (w *walBench) renewSlots(ctx context.Context) error {
	for _, slot := range walSlots {
		if _, err := w.sql(ctx, fmt.Sprintf("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '%s'", slot)); err != nil {
			return err
		}
		if _, err := w.sql(ctx, fmt.Sprintf("SELECT pg_create_physical_replication_slot('%s', true)", slot)); err != nil {
			return err
		}
	}
	return nil
}

// byReceiver receives the log with pg_receivewal, over TCP, from the start of that
// program. It syncs a segment when that is full, or with the option all that came as soon
// as nothing more has come.
func (w *walBench) byReceiver(option string) func(context.Context, string) (time.Duration, error) {
	return func(ctx context.Context, end string) (time.Duration, error) {
		dir, err := os.MkdirTemp(w.dir, "received-")
		if err != nil {
			return 0, err
		}
		if err := os.Chown(dir, w.uid, w.gid); err != nil {
			return 0, err
		}
		args := []string{"-h", "127.0.0.1", "-D", dir, "-S", walSlots[option], "--endpos", end, "--no-loop"}
		if option != "" {
			args = append(args, option)
		}
		begun := time.Now()
		_, err = w.do(ctx, "pg_receivewal", args...)
		took := time.Since(begun)
		return took, errors.Join(err, os.RemoveAll(dir))
	}
}

func (w *walBench) replicaData() string { return filepath.Join(w.dir, "replica") }

// makeReplica makes a physical replica of the server, which is started for byReplica only.
func (w *walBench) makeReplica(ctx context.Context) error {
	_, err := w.do(ctx, "pg_basebackup", "-D", w.replicaData(), "-d", "host=127.0.0.1 application_name="+replicaName,
		"-c", "fast", "-X", "stream", "-R", "-C", "-S", replicaName)
	return err
}

// byReplica starts the replica, and measures from when it is connected until it has the
// log durable. It replays what it has meanwhile.
func (w *walBench) byReplica(ctx context.Context, end string) (time.Duration, error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres", w.dir, walPort))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	if err := w.startReplica(ctx, w.replicaData(), w.replicaData()); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	reached := func(column string) error {
		got := conn.ExecParams(ctx, "SELECT "+column+" FROM pg_stat_replication WHERE application_name = $1", [][]byte{[]byte(replicaName)}, nil, nil, nil).Read()
		if got.Err != nil || len(got.Rows) == 0 {
			return errors.Join(errors.New("the replica isn't connected"), got.Err)
		}
		if column == "1" {
			return nil
		}
		have, err := position(string(got.Rows[0][0]))
		want, failed := position(end)
		if err = errors.Join(err, failed); err == nil && have < want {
			err = fmt.Errorf("the replica is at %s, want %s", got.Rows[0][0], end)
		}
		return err
	}
	if err := poll(ctx, 2*time.Millisecond, func() error { return reached("1") }); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := poll(ctx, 10*time.Millisecond, func() error { return reached("flush_lsn") }); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	// Nothing is left to be replayed when it is started again.
	err = poll(ctx, 10*time.Millisecond, func() error { return reached("replay_lsn") })
	return took, errors.Join(err, w.stopReplica(ctx))
}

// startReplica starts a server with its socket in a directory, and doesn't wait for it.
func (w *walBench) startReplica(ctx context.Context, data, socket string) error {
	if _, err := w.do(ctx, "pg_ctl", "-D", data, "-l", filepath.Join(w.dir, "replica.log"), "-W", "-o",
		fmt.Sprintf("-k %s -c port=%s -c listen_addresses=''", socket, walPort), "start"); err != nil {
		return err
	}
	w.replica = data
	return nil
}

func (w *walBench) stopReplica(ctx context.Context) error {
	data := w.replica
	if w.replica = ""; data == "" {
		return nil
	}
	_, err := w.do(ctx, "pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
	return err
}
