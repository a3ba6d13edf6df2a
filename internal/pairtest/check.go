package pairtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"syscall"
)

// Demand is what is checked, beside the rules of the package: the load's own numbers.
type Demand struct {
	Seed uint64
	Keep int64 // as in [Options]
	Most int   // as there
	// Writers before First are left out, and those that Lost names: their server may have
	// lost, in a crash, what it had committed asynchronously, and has then parted from the
	// files by itself. Of writers before First not even the files are read.
	First int
	Lost  func(writer int) bool // nil: none
	// Least are operations of each writer that must be there, and Newest the newest there
	// may be, from writer First on; nil: anything goes.
	Least, Newest []int64
}

// Found is what a check looked at.
type Found struct {
	Writers, Files, Rows int
	InFlight             int     // operations that were not there whole
	Read                 int     // files that were read; the others were known
	Newest               []int64 // operation of each writer, from First on
}

// maxTold bounds the violations that an error lists.
const maxTold = 8

// Check compares the files in dir with the rows. Its error lists the violations.
func Check(dir string, rows []Row, d Demand) (Found, error) {
	return new(Checker).Check(dir, rows, d)
}

// Checker checks one tree again and again, and reads only the files that have changed
// since the last check: those of another inode, size or time stamp. It must not be used
// concurrently.
type Checker struct {
	files map[string]known // by path
	drawn map[[2]int64]*expected
}

// known is a file that was read.
type known struct {
	inode        uint64
	size         int64
	mtime, ctime syscall.Timespec
	digest       [sha256.Size]byte
}

// expected is an operation without its contents.
type expected struct {
	rows      []Row
	remove    int64
	rowsFirst bool
}

// Forget has the next check read everything.
func (k *Checker) Forget() { k.files, k.drawn = nil, nil }

// Check compares the files in dir with the rows. Its error lists the violations.
func (k *Checker) Check(dir string, rows []Row, d Demand) (Found, error) {
	c := &check{demand: d, draw: drawOf(d.Seed, d.Keep, d.Most), writers: map[int]*traces{},
		before: *k, after: Checker{map[string]known{}, map[[2]int64]*expected{}}}
	if err := c.readFiles(dir); err != nil {
		return Found{}, err
	}
	for _, r := range rows {
		t := c.of(r.Writer).of(r.Op)
		if _, double := t.rows[r.File]; double {
			c.violated("writer %d, operation %d: file %d has two rows", r.Writer, r.Op, r.File)
		}
		t.rows[r.File] = r.Digest
	}
	found := Found{Writers: len(c.writers), Rows: len(rows), Files: c.files, Read: c.read}
	for w, t := range c.writers {
		if w < d.First || d.Lost != nil && d.Lost(w) {
			continue
		}
		if c.writer(w, t) {
			found.InFlight++
		}
		for len(found.Newest) <= w-d.First {
			found.Newest = append(found.Newest, 0)
		}
		found.Newest[w-d.First] = t.newest
	}
	for i, least := range d.Least {
		if w := d.First + i; c.writers[w] == nil && least > 0 && (d.Lost == nil || !d.Lost(w)) {
			c.violated("writer %d: there is nothing of it, want %d operations", w, least)
		}
	}
	*k = c.after
	if c.more > 0 {
		c.violations = append(c.violations, fmt.Errorf("and %d more", c.more))
	}
	return found, errors.Join(c.violations...)
}

type check struct {
	demand        Demand
	draw          draw
	writers       map[int]*traces
	before, after Checker // what is known
	files, read   int
	violations    []error
	more          int
}

// traces are what there is of a writer's operations.
type traces struct {
	newest int64
	ops    map[int64]*trace
}

type trace struct {
	files map[int][sha256.Size]byte
	parts int // files under their first name
	rows  map[int][sha256.Size]byte
}

func (c *check) violated(format string, args ...any) {
	if len(c.violations) >= maxTold {
		c.more++
		return
	}
	c.violations = append(c.violations, fmt.Errorf(format, args...))
}

func (c *check) of(writer int) *traces {
	t := c.writers[writer]
	if t == nil {
		t = &traces{ops: map[int64]*trace{}}
		c.writers[writer] = t
	}
	return t
}

func (t *traces) of(op int64) *trace {
	if t.ops[op] == nil {
		t.ops[op] = &trace{files: map[int][sha256.Size]byte{}, rows: map[int][sha256.Size]byte{}}
		t.newest = max(t.newest, op)
	}
	return t.ops[op]
}

// state is how far an operation is.
type state struct {
	anyFile, allFiles, anyRow, allRows bool // of its own
}

// state compares what there is of an operation with what was drawn.
func (c *check) state(t *trace, o *expected) state {
	s := state{allFiles: true, allRows: true}
	if t == nil {
		return state{}
	}
	rows := o.rows
	for _, want := range rows {
		digest, ok := t.files[want.File]
		s.anyFile = s.anyFile || ok
		s.allFiles = s.allFiles && ok && digest == want.Digest
		digest, ok = t.rows[want.File]
		s.anyRow = s.anyRow || ok
		s.allRows = s.allRows && ok && digest == want.Digest
	}
	s.anyFile = s.anyFile || t.parts > 0
	s.allFiles = s.allFiles && t.parts == 0 && len(t.files) == len(rows)
	s.allRows = s.allRows && len(t.rows) == len(rows)
	return s
}

// writer checks one writer, and reports whether its newest operation is in flight.
func (c *check) writer(w int, t *traces) (inFlight bool) {
	d, n := c.demand, t.newest
	wrong := func(op int64, s state, what string) {
		c.violated("writer %d, operation %d of %d: %s (of its files there are %s, of its rows %s)", w, op, n, what, some(s.anyFile, s.allFiles), some(s.anyRow, s.allRows))
	}
	get := func(op int64) (state, *expected) {
		o := c.expected(w, op)
		return c.state(t.ops[op], o), o
	}
	for op := range t.ops {
		if s, _ := get(op); op < n-c.draw.keep {
			wrong(op, s, "it was removed")
		}
	}
	for op := max(1, n-c.draw.keep+1); op < n; op++ {
		if s, _ := get(op); !s.allFiles || !s.allRows {
			wrong(op, s, "it is over, want all of it")
		}
	}
	s, o := get(n)
	old := state{}
	oldWhole := false // its files
	if o.remove > 0 {
		old, _ = get(o.remove)
		oldWhole = old.allFiles
	}
	filesDone, filesBegun := s.allFiles && !old.anyFile, s.anyFile || o.remove > 0 && !oldWhole
	switch {
	case s.anyRow != s.allRows:
		wrong(n, s, "a transaction is there in part")
	case o.remove > 0 && (old.anyRow != old.allRows || old.anyRow == s.anyRow):
		wrong(o.remove, old, "the rows of the newest operation and their removal are one transaction")
	case !o.rowsFirst && s.anyRow && !filesDone:
		wrong(n, s, "the files came first, want all of them with the rows")
	case o.rowsFirst && filesBegun && !s.anyRow:
		wrong(n, s, "the rows came first, want all of them with a file")
	}
	inFlight = !filesDone || !s.anyRow
	if i := w - d.First; i >= 0 && i < len(d.Least) && (n < d.Least[i] || n == d.Least[i] && inFlight) {
		wrong(n, s, fmt.Sprintf("want at least the first %d whole", d.Least[i]))
	}
	if i := w - d.First; i >= 0 && i < len(d.Newest) && n > d.Newest[i] {
		wrong(n, s, fmt.Sprintf("only %d were begun", d.Newest[i]))
	}
	return inFlight
}

func some(one, all bool) string {
	switch {
	case all:
		return "all"
	case one:
		return "some, or others"
	}
	return "none"
}
