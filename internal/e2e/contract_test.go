package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fields are paths into the status document with what their values look like; "?"
// at the end of a path is for what only one side knows.
var fields = map[string]string{
	"node": `^"\w+"$`, "version": `^"\d+\.\d+`, "designated": `^"(primary|secondary)"$`, "role": `^"(production|standby)"$`,
	"status": `^"(production|standby)"$`, "epoch": `^1$`,
	"peer.name": `^"\w+"$`, "peer.address": `^"127\.0\.0\.1:\d+"$`, "peer.link": `^"up"$`, "peer.status": `^"(production|standby)"$`,
	"peer.epoch": `^1$`, "peer.rtt_seconds": number, "peer.last_seen": date,
	"groups.0.name": `^"tree"$`, "groups.0.phase": `^"streaming"$`,
	"groups.0.barriers.captured.id": barrier, "groups.0.barriers.captured.epoch": `^1$`, "groups.0.barriers.captured.seq": whole,
	"groups.0.barriers.captured.cut_at": date, "groups.0.barriers.captured.confirmed_at": date, "groups.0.barriers.captured.digest": digest,
	"groups.0.barriers.captured.databases": `^\{\}$`, "groups.0.barriers.captured.rung": `^"optimistic"$`,
	"groups.0.barriers.captured.stall_seconds": number, "groups.0.barriers.captured.uncovered": `^\[\]$`,
	"groups.0.barriers.received.id": barrier, "groups.0.barriers.received.cut_at": date, "groups.0.barriers.received.digest": digest,
	"groups.0.barriers.applied.id": barrier, "groups.0.barriers.applied.seq": whole, "groups.0.barriers.applied.cut_at": date,
	"groups.0.barriers.applied.confirmed_at": date, "groups.0.barriers.applied.digest": digest,
	"groups.0.lag.seconds": number, "groups.0.lag.bytes": whole, "groups.0.lag.files": whole,
	"groups.0.seed.files_done": `^2$`, "groups.0.seed.files_total": `^2$`, "groups.0.seed.bytes_done": whole, "groups.0.seed.bytes_total": whole,
	"groups.0.seed.eta_seconds": number,
	"groups.0.tree.files":       `^2$`, "groups.0.tree.bytes": `^8$`, "groups.0.tree.digest": digest,
	"groups.0.journal.bytes": whole, "groups.0.journal.limit_bytes": whole,
	"groups.0.sent.bytes": whole, "groups.0.sent.chunks": whole,
	"health": `^\[`,
}

const (
	number  = `^[0-9.e-]+$`
	whole   = `^\d+$`
	date    = `^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"$`
	digest  = `^"b3:[0-9a-f]{64}"$`
	barrier = `^"1-\d+"$`
)

// TestStatusFields holds status --json of both nodes against the contract.
func TestStatusFields(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from", p.dir+"/to"
	mkdirs(t, p.from+"/d", p.to)
	write(t, p.from+"/a", "one\n")
	write(t, p.from+"/d/b", "two\n")
	p.start(1)
	p.equal()
	p.equal()
	for _, n := range []*node{p.primary, p.standby} {
		poll(t, "the "+n.role+" shows all", func() error {
			var doc any
			out := n.must("status", "--json")
			if err := json.Unmarshal([]byte(out), &doc); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var wrong []string
			for path, pattern := range fields {
				value, err := json.Marshal(at(doc, path))
				if err != nil {
					return err
				}
				if !regexp.MustCompile(pattern).Match(value) {
					wrong = append(wrong, fmt.Sprintf("%s is %s, want %s", path, value, pattern))
				}
			}
			if len(wrong) > 0 {
				return errorList(wrong)
			}
			return nil
		})
	}
}

// at follows a path of keys and indexes into a JSON value.
func at(doc any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch v := doc.(type) {
		case map[string]any:
			doc = v[key]
		case []any:
			if key != "0" || len(v) == 0 {
				return nil
			}
			doc = v[0]
		default:
			return nil
		}
	}
	return doc
}

// TestLag is what an operator reads while the standby can't follow: the age of the
// oldest change, also after either side was started again.
func TestLag(t *testing.T) {
	t.Parallel()
	p := newPair(t, 1)
	write(t, p.from+"/a", "one")
	p.equal()
	p.standby.must("pause")
	write(t, p.from+"/a", "two")
	begun := time.Now()
	p.primary.must("barrier", "--wait", "received", "--timeout", patience.String())
	for _, n := range []*node{p.primary, p.standby} {
		n.behind(begun)
	}
	p.primary.restart(t)
	p.linked()
	p.primary.behind(begun)
	p.standby.restart(t)
	p.linked()
	p.primary.behind(begun)
	p.standby.behind(begun)
	p.standby.must("resume")
	p.equal()
	for _, n := range []*node{p.primary, p.standby} {
		poll(t, "the lag of the "+n.role+" is 0", func() error {
			s, err := n.status()
			if err == nil && s.Groups[0].Lag.Seconds.Duration() != 0 {
				err = fmt.Errorf("lag is %v", s.Groups[0].Lag.Seconds)
			}
			return err
		})
	}
}

// behind wants a lag that has grown since a change, and the phase that explains it.
func (n *node) behind(since time.Time) {
	n.t.Helper()
	poll(n.t, "the lag of the "+n.role+" is the age of the change", func() error {
		s, err := n.status()
		if err != nil {
			return err
		}
		age := time.Since(since)
		lag := s.Groups[0].Lag
		if lag == nil || lag.Seconds == nil {
			return fmt.Errorf("lag is unknown")
		}
		if got := lag.Seconds.Duration(); got < age/2 || got > age+3*time.Second || s.Groups[0].Phase != "paused" {
			return fmt.Errorf("lag is %v after %v, phase %s", got, age, s.Groups[0].Phase)
		}
		return nil
	})
}

// TestSeedKeepsWhatWasThere seeds a directory that holds other things: a little is
// set aside; if it is much, an operator must agree first.
func TestSeedKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, dir: tempDir(t)}
	p.from, p.to = p.dir+"/from", p.dir+"/to"
	mkdirs(t, p.from, p.to+"/old")
	for i := range 10 {
		write(t, fmt.Sprintf("%s/same%d", p.from, i), "the same")
		write(t, fmt.Sprintf("%s/old/other%d", p.to, i), "of somebody else")
	}
	before := describe(t, p.to)
	p.start(1)
	p.standby.unwell("seed-halted", "")
	phase(t, p.standby, "halted")
	phase(t, p.primary, "halted")
	if r := p.primary.ctl("barrier", "--wait", "applied", "--timeout", "30s"); r.code != 4 || !strings.Contains(r.stderr, "resume --accept") {
		t.Errorf("barrier: %+v", r)
	}
	if r := p.standby.ctl("resume"); r.code != 4 {
		t.Errorf("resume: %+v", r)
	}
	if diff := strings.Join(describe(t, p.to), "\n"); diff != strings.Join(before, "\n") {
		t.Errorf("the tree was changed before anybody agreed:\n%s", diff)
	}
	// A restart doesn't make it forget to ask.
	p.standby.restart(t)
	p.linked()
	phase(t, p.standby, "halted")
	p.standby.must("resume", "--accept")
	p.equal()
	p.standby.well()
	found := command(t, "grep", "-rl", "of somebody else", p.dir+"/.repld-to")
	if n := strings.Count(found.stdout, "\n"); n != 10 {
		t.Errorf("%d of 10 files were set aside:\n%s%s", n, found.stdout, found.stderr)
	}
	if _, err := os.Stat(p.to + "/old"); err == nil {
		t.Error("the old directory is still there")
	}
}
