package demo

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"repld/change"
)

// ApplicationCommand is the hidden command of repld that runs [Application].
const ApplicationCommand = "demo-application"

// The writers, named after the order in which they do an operation's two halves.
const (
	fileFirst = "file-first"
	rowFirst  = "row-first"
)

var writers = [...]string{fileFirst, rowFirst}

const databaseName = "application.db"

// waveEvery is the time from one small wave of operations to the next: timers of
// this machine may be too coarse to space single operations.
const waveEvery = 20 * time.Millisecond

// Application writes files and rows below dir until ctx ends, rate operations a
// second in waves, if the machine allows. Each operation that is done is one line on out:
// the writer and the operation's number, which counts from 1. What it finds there it
// goes on with; an operation that it has begun it finishes. node is where it runs, which
// goes into what it writes: two nodes never write the same under one number.
func Application(ctx context.Context, dir, node string, rate int, out io.Writer) error {
	if least := int(time.Second/waveEvery) * len(writers); rate < least {
		return fmt.Errorf("rate is %d: want at least %d operations a second", rate, least)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	db, err := openDatabase(filepath.Join(dir, databaseName))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range writers {
		w := &writer{name: name, node: node, dir: dir, db: db, report: func(line string) error {
			mu.Lock()
			defer mu.Unlock()
			_, err := io.WriteString(out, line)
			return err
		}}
		g.Go(func() error { return w.run(ctx, waveOf(rate)/uint64(len(writers))) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	return nil
}

const schema = `
create table if not exists operation (
	writer text not null, seq integer not null, file text not null, size integer not null, digest text not null, node text not null, note blob not null,
	primary key (writer, seq)) without rowid;
create index if not exists operation_digest on operation (digest);`

// openDatabase opens an SQLite database in WAL mode. "normal" leaves the log
// unsynced between checkpoints (sqlite.org/pragma.html#pragma_synchronous).
func openDatabase(path string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)"}, "_txlock": {"immediate"},
	}.Encode()}
	return sql.Open("sqlite", u.String())
}

// writer does operations in one order.
type writer struct {
	name, node, dir string
	db              *sql.DB
	report          func(line string) error
}

// waveOf is how many operations both writers do in a wave.
func waveOf(rate int) uint64 { return uint64(rate) * uint64(waveEvery) / uint64(time.Second) }

func (w *writer) run(ctx context.Context, wave uint64) error {
	working := context.WithoutCancel(ctx)
	next, err := w.resume(working)
	if err != nil {
		return fmt.Errorf("go on as %s: %w", w.name, err)
	}
	tick := time.NewTicker(waveEvery)
	defer tick.Stop()
	for seq := next; ; seq++ {
		if err := w.operation(working, seq); err != nil {
			return err
		}
		if err := w.report(fmt.Sprintf("%s %d\n", w.name, seq)); err != nil {
			return err
		}
		if seq%wave > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// resume returns the number of the first operation that is to be done. One that is
// there in part is finished, if its row came first, or done again: its file is
// overwritten.
func (w *writer) resume(ctx context.Context) (uint64, error) {
	var last uint64
	var node string
	err := w.db.QueryRowContext(ctx, `select seq, node from operation where writer = ? order by seq desc limit 1`, w.name).Scan(&last, &node)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 1, nil
	case err != nil:
		return 0, err
	case w.name == rowFirst:
		data, _ := content(node, w.name, last)
		err = writeInHalves(filepath.Join(w.dir, fileOf(w.name, last)), data)
	}
	return last + 1, err
}

func (w *writer) operation(ctx context.Context, seq uint64) error {
	data, note := content(w.node, w.name, seq)
	file := fileOf(w.name, seq)
	steps := []func() error{
		func() error { return writeInHalves(filepath.Join(w.dir, file), data) },
		func() error {
			_, err := w.db.ExecContext(ctx, `insert into operation values (?, ?, ?, ?, ?, ?, ?)`,
				w.name, int64(seq), file, len(data), digestOf(data).String(), w.node, note)
			return err
		},
	}
	if w.name == rowFirst {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("operation %d of %s: %w", seq, w.name, err)
		}
	}
	return nil
}

// fileOf is the file of an operation, relative to the application's directory.
func fileOf(writer string, seq uint64) string {
	const perDirectory = 100
	return filepath.Join("files", writer, fmt.Sprintf("%04d", seq/perDirectory), fmt.Sprintf("%07d", seq))
}

// content makes up the file and the note of an operation that is done on a node.
func content(node, writer string, seq uint64) (data, note []byte) {
	var seed [32]byte
	at := copy(seed[:], node)
	at += copy(seed[at:], writer)
	binary.BigEndian.PutUint64(seed[at:], seq)
	src := rand.NewChaCha8(seed)
	rng := rand.New(src)
	data = make([]byte, 200+rng.IntN(12<<10))
	note = make([]byte, 20+rng.IntN(200))
	_, _ = src.Read(data) // never fails
	_, _ = src.Read(note)
	return data, note
}

// writeInHalves writes a file in two writes, so that it can be seen unfinished.
func writeInHalves(path string, data []byte) error {
	const how = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	f, err := os.OpenFile(path, how, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err = os.OpenFile(path, how, 0o644)
	}
	if err != nil {
		return err
	}
	for _, half := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := f.Write(half); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}

func digestOf(data []byte) change.Digest { return blake3.Sum256(data) }
