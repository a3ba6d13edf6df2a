package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// writer is a client of the service of two nodes, wherever it runs. It counts what was
// acknowledged.
type writer struct {
	t     testing.TB
	seats [2]*station
	stop  func()
	gate  sync.Mutex // of the writer's own operations: whoever holds it has paused them

	mu    sync.Mutex
	next  int
	acked map[int]ack
	gap   time.Duration // the longest between two acknowledgements
	last  time.Time
}

// ack is an operation that was acknowledged, and by whom.
type ack struct {
	serviceOp
	node int
}

// The writer's operations, but for those that a test asks for.
const (
	writerBytes = 700
	writerRest  = 15 * time.Millisecond
)

// newWriter starts a writer, which works until stop or the end of the test.
func newWriter(t testing.TB, a, b *station) *writer {
	w := &writer{t: t, seats: [2]*station{a, b}, acked: map[int]ack{}, last: time.Now()}
	end := make(chan struct{})
	var all sync.WaitGroup
	w.stop = sync.OnceFunc(func() { close(end); all.Wait() })
	t.Cleanup(w.stop)
	// Two clients, each of which prefers another node: one would not find a second writer.
	for first := range w.seats {
		all.Go(func() {
			for {
				w.gate.Lock()
				w.ask(first, writerBytes)
				w.gate.Unlock()
				select {
				case <-end:
					return
				case <-time.After(2 * writerRest):
				}
			}
		})
	}
	return w
}

// do has the service do an operation, if it runs anywhere, and reports whether it was
// acknowledged. Of one that was not it isn't known whether it was done; its number is not
// used again.
func (w *writer) do(size int) (serviceOp, bool) { return w.ask(0, size) }

// ask does so, and asks a node before the other one.
func (w *writer) ask(first, size int) (serviceOp, bool) {
	w.mu.Lock()
	o := serviceOp{Number: w.next, Bytes: size}
	w.next++
	w.mu.Unlock()
	for _, i := range []int{first, 1 - first} {
		seat := w.seats[i]
		conn, err := net.Dial("unix", filepath.Join(seat.dir, "service.sock"))
		if err != nil {
			continue
		}
		ok := request(conn, o)
		conn.Close()
		if ok {
			w.mu.Lock()
			w.acked[o.Number] = ack{o, i}
			w.gap = max(w.gap, time.Since(w.last))
			w.last = time.Now()
			w.mu.Unlock()
		}
		return o, ok
	}
	return o, false
}

func request(conn net.Conn, o serviceOp) bool {
	line, err := json.Marshal(o)
	if err != nil {
		return false
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return false
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return false
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && answer == "ok\n"
}

// by counts what a node has acknowledged.
func (w *writer) by(node int) (sum int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.acked {
		if a.node == node {
			sum++
		}
	}
	return sum
}

// works waits until a node has acknowledged some more.
func (w *writer) works(node, more int) {
	w.t.Helper()
	want := w.by(node) + more
	poll(w.t, "the service of "+w.seats[node].name+" works", func() error {
		if got := w.by(node); got < want {
			return fmt.Errorf("%d operations are acknowledged, want %d", got, want)
		}
		return nil
	})
}

// longest returns the longest time without an acknowledgement since the last call.
func (w *writer) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	gap := max(w.gap, time.Since(w.last))
	w.gap = 0
	return gap
}

func (w *writer) acknowledged() map[int]ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.acked)
}

// log reads what the service of a node has accepted.
func (s *station) log() (all []accepted) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "service.log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var a accepted
		if err := json.Unmarshal(line, &a); err != nil {
			s.t.Fatalf("the log of the service of %s: %v: %q", s.name, err, line)
		}
		all = append(all, a)
	}
	return all
}

// writing is the time from the beginning of the first to the end of the last operation
// that a run of a service has accepted.
type writing struct {
	node        string
	run, done   int
	first, last time.Duration
}

func writings(stations ...*station) (all []writing) {
	for _, s := range stations {
		byRun := map[int]*writing{}
		for _, a := range s.log() {
			w := byRun[a.Run]
			if w == nil {
				w = &writing{node: s.name, run: a.Run, first: a.Mono}
				byRun[a.Run] = w
			}
			w.last = a.Mono
			if a.End {
				w.done++
			}
		}
		for _, w := range byRun {
			all = append(all, *w)
		}
	}
	slices.SortFunc(all, func(x, y writing) int { return int(x.first - y.first) })
	return all
}

// oneWriter wants that never both nodes' services accepted operations: the times in which
// they worked don't overlap.
func oneWriter(t testing.TB, stations ...*station) {
	t.Helper()
	all := writings(stations...)
	for i, w := range all {
		t.Logf("the service of %s (process %d) did %d operations from %v to %v", w.node, w.run, w.done, w.first, w.last)
		for _, v := range all[i+1:] {
			if v.first <= w.last {
				t.Errorf("two writers: the service of %s worked from %v to %v, that of %s from %v to %v", w.node, w.first, w.last, v.node, v.first, v.last)
			}
		}
	}
}

// has reports what of an operation a tree has: its file, its line of the journal.
func (s *station) has(o serviceOp, journal string) (file, line bool) {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.tree, o.name()))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return err == nil && bytes.Equal(b, o.content()), strings.Contains(journal, o.line())
}

func (s *station) journal() string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.tree, "journal"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// complete wants all that was acknowledged in a node's tree, but for what is lost.
func (w *writer) complete(s *station, lost map[int]serviceOp) {
	w.t.Helper()
	journal := s.journal()
	acked := w.acknowledged()
	for n, a := range acked {
		file, line := s.has(a.serviceOp, journal)
		if _, gone := lost[n]; !gone && (!file || !line) {
			w.t.Errorf("operation %d was acknowledged by %s, and on %s is not there: file %t, line of the journal %t", n, w.seats[a.node].name, s.name, file, line)
		}
	}
	if len(acked) < 30 {
		w.t.Errorf("%d operations were acknowledged: too few for this test", len(acked))
	}
	w.t.Logf("%d operations were acknowledged; on %s all but %d lost ones are there", len(acked), s.name, len(lost))
}

// behind wants of a node that was promoted at a barrier, which the other one cut at a
// time, exactly what was done up to then, and returns what was acknowledged and is lost.
func (w *writer) behind(from, promoted *station, cut time.Time) (lost map[int]serviceOp) {
	w.t.Helper()
	lost = map[int]serviceOp{}
	journal, acked := promoted.journal(), w.acknowledged()
	begun := map[int]time.Time{}
	early := 0
	for _, a := range from.log() {
		if !a.End {
			begun[a.Number] = a.Wall
		}
	}
	ended := map[int]time.Time{}
	for _, a := range from.log() {
		if a.End {
			ended[a.Number] = a.Wall
		}
	}
	for n, at := range begun {
		a, acknowledged := acked[n]
		o := serviceOp{n, writerBytes}
		if acknowledged {
			o = a.serviceOp
		}
		file, line := promoted.has(o, journal)
		end, durable := ended[n]
		switch {
		case durable && !end.After(cut):
			early++
			if !file || !line {
				w.t.Errorf("operation %d ended %v before the promoted barrier was cut, and is lost: file %t, line %t", n, cut.Sub(end), file, line)
			}
		case at.After(cut):
			if _, err := os.Lstat(filepath.Join(promoted.tree, o.name())); err == nil || line {
				w.t.Errorf("operation %d began %v after the promoted barrier was cut, and is there: %v, line %t", n, at.Sub(cut), err, line)
			}
		}
		if acknowledged && !(file && line) {
			lost[n] = o
		}
	}
	if early == 0 {
		w.t.Errorf("nothing was done up to the promoted barrier: the test shows nothing")
	}
	w.t.Logf("promoted at a barrier cut at %s: %d operations were done up to it; %d acknowledged ones behind it are lost", cut.Format("15:04:05.000"), early, len(lost))
	return lost
}
