package pairtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Tables is how many tables the rows are in; the row of a file is in the table of its
// number modulo that.
const Tables = 2

// Row says that a file is there.
type Row struct {
	Writer int
	Op     int64 // from 1 on
	File   int   // from 0 on
	Digest [sha256.Size]byte
}

// Database is where the rows are.
type Database interface {
	// Create makes the tables.
	Create(ctx context.Context) error
	// Session opens a connection for a writer.
	Session(ctx context.Context, asynchronous bool) (Session, error)
	// Rows returns all rows of all tables, at one instant.
	Rows(ctx context.Context) ([]Row, error)
}

// Session is a writer's connection.
type Session interface {
	// Commit puts rows and removes those of another operation of the writer, in one
	// transaction.
	Commit(ctx context.Context, put []Row, writer int, remove int64) error
	Close()
}

// maxSize bounds a file, in bytes.
const maxSize = 12 << 10

// operation is what a writer does at once.
type operation struct {
	writer    int
	number    int64
	remove    int64 // the operation that is removed; < 1: none
	rowsFirst bool
	renamed   bool // files are written under another name first
	contents  [][]byte
}

// draw is what operations follow from.
type draw struct {
	seed uint64
	keep int64
	most int
}

// drawOf fills in the defaults of [Options].
func drawOf(seed uint64, keep int64, most int) draw {
	if keep == 0 {
		keep = 50
	}
	if most == 0 {
		most = 3
	}
	return draw{seed, keep, most}
}

// operation draws one: the same one for the same numbers.
func (d draw) operation(writer int, number int64) *operation {
	var key [32]byte
	for i, v := range []uint64{d.seed, uint64(writer), uint64(number)} {
		binary.LittleEndian.PutUint64(key[8*i:], v)
	}
	bytes := rand.NewChaCha8(key)
	rng := rand.New(bytes)
	o := &operation{writer: writer, number: number, remove: number - d.keep, rowsFirst: rng.IntN(2) == 0, renamed: rng.IntN(2) == 0}
	for range 1 + rng.IntN(d.most) {
		size := rng.IntN(maxSize)
		if rng.IntN(4) > 0 {
			size /= 16
		}
		content := make([]byte, size)
		_, _ = bytes.Read(content) // it never fails
		o.contents = append(o.contents, content)
	}
	return o
}

func (o *operation) rows() []Row {
	rows := make([]Row, len(o.contents))
	for i, c := range o.contents {
		rows[i] = Row{Writer: o.writer, Op: o.number, File: i, Digest: sha256.Sum256(c)}
	}
	return rows
}

// subdirs is how many directories a writer's files are spread over: a directory that
// changes without pause can't be captured.
const subdirs = 64

// unfinished ends the name of a file that is renamed once it is whole.
const unfinished = ".part"

func fileName(writer int, op int64, file int) string {
	return fmt.Sprintf("w%d/%d/%d.%d", writer, op%subdirs, op, file)
}

// writeFile writes one of the operation's files, in two parts.
func (o *operation) writeFile(dir string, i int) error {
	path := filepath.Join(dir, fileName(o.writer, o.number, i))
	to := path
	if o.renamed {
		to += unfinished
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	half := len(o.contents[i]) / 2
	_, err = f.Write(o.contents[i][:half])
	if err == nil {
		_, err = f.Write(o.contents[i][half:])
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && o.renamed {
		err = os.Rename(to, path)
	}
	return err
}
