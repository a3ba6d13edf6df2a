package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// row is one operation as the database has it.
type row struct {
	file, digest string
	size         int64
}

// openCopy copies a database with its write-ahead log and opens the copy, because
// opening one changes it.
func openCopy(application, to string) (*sql.DB, error) {
	if err := os.RemoveAll(to); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return nil, err
	}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(filepath.Join(application, databaseName+suffix))
		if suffix != "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(to, databaseName+suffix), data, 0o644); err != nil {
			return nil, err
		}
	}
	return openDatabase(filepath.Join(to, databaseName))
}

// integrity has SQLite check the whole database.
func integrity(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "pragma integrity_check")
	if err != nil {
		return err
	}
	defer rows.Close()
	var p problems
	lines := 0
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if lines++; line != "ok" {
			p.add("%s", line)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if lines == 0 {
		p.add("it said nothing")
	}
	return p.err()
}

// tally is what the standby has of a writer's operations.
type tally struct {
	complete uint64 // operations 1 … complete are there with both halves
	inFlight int    // 1: the next one is there in part
}

// compareRows compares rows and files of one writer.
func compareRows(ctx context.Context, db *sql.DB, application, writer string) (tally, error) {
	rows, err := loadRows(ctx, db, writer)
	if err != nil {
		return tally{}, err
	}
	files, err := listFiles(application, writer)
	if err != nil {
		return tally{}, err
	}
	var p problems
	gap := func(what string, n, top uint64) {
		if n != top {
			p.add("%s: %d %s, but the newest is of operation %d", writer, n, what, top)
		}
	}
	gap("rows", uint64(len(rows)), newest(rows))
	gap("files", uint64(len(files)), newest(files))

	var t tally
	top := max(newest(rows), newest(files))
	for seq := uint64(1); seq <= top; seq++ {
		state, err := operationState(application, rows[seq], files[seq])
		if err != nil {
			return t, err
		}
		switch {
		case state == "":
			t.complete = seq
		case seq == top && mayBeInFlight(writer, rows[seq] != nil, files[seq] != ""):
			t.inFlight = 1
		default:
			p.add("%s: operation %d of %d %s", writer, seq, top, state)
		}
	}
	if top == 0 {
		p.add("%s: not one operation is there", writer)
	}
	return t, p.err()
}

// mayBeInFlight reports whether the newest operation may be there in part: the
// half that comes first must be there, and the second is where it broke off.
func mayBeInFlight(writer string, hasRow, hasFile bool) bool {
	if writer == fileFirst {
		return hasFile && !hasRow
	}
	return hasRow // its file is missing, or was being written
}

// operationState says what is wrong with an operation; "" if it is complete.
func operationState(application string, r *row, file string) (string, error) {
	switch {
	case r == nil && file == "":
		return "has neither row nor file", nil
	case r == nil:
		return "has a file and no row", nil
	case file == "":
		return "has a row and no file", nil
	case file != r.file:
		return fmt.Sprintf("has the file %s, its row says %s", file, r.file), nil
	}
	data, err := os.ReadFile(filepath.Join(application, file))
	switch {
	case err != nil:
		return "", err
	case int64(len(data)) != r.size:
		return fmt.Sprintf("has a file of %d bytes, its row says %d", len(data), r.size), nil
	case digestOf(data).String() != r.digest:
		return "has a file with other bytes than its row says", nil
	}
	return "", nil
}

func loadRows(ctx context.Context, db *sql.DB, writer string) (map[uint64]*row, error) {
	rows, err := db.QueryContext(ctx, "select seq, file, size, digest from operation where writer = ?", writer)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[uint64]*row)
	for rows.Next() {
		var seq int64
		var r row
		if err := rows.Scan(&seq, &r.file, &r.size, &r.digest); err != nil {
			return nil, err
		}
		found[uint64(seq)] = &r
	}
	return found, rows.Err()
}

// listFiles returns the files of a writer, relative to the application's directory.
func listFiles(application, writer string) (map[uint64]string, error) {
	found := make(map[uint64]string)
	err := filepath.WalkDir(filepath.Join(application, "files", writer), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(application, path)
		if err != nil {
			return err
		}
		seq, err := strconv.ParseUint(d.Name(), 10, 64)
		if err != nil || fileOf(writer, seq) != rel {
			return fmt.Errorf("%s is no file of an operation", rel)
		}
		found[seq] = rel
		return nil
	})
	return found, err
}

func newest[V any](m map[uint64]V) (top uint64) {
	for seq := range m {
		top = max(top, seq)
	}
	return top
}

// problems collects what is wrong, and tells the first of it.
type problems struct {
	first []string
	count int
}

func (p *problems) add(format string, args ...any) {
	const told = 3
	if p.count++; p.count <= told {
		p.first = append(p.first, fmt.Sprintf(format, args...))
	}
}

func (p *problems) err() error {
	if p.count == 0 {
		return nil
	}
	text := strings.Join(p.first, "; ")
	if more := p.count - len(p.first); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}
