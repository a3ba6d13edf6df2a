package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"repld/internal/testfs"
)

// TestModel does random things to a primary's tree, while barriers are asked for,
// either side is killed and started again, the link is cut and applying is paused.
// Every now and then all that must come to rest, and both trees must be equal.
func TestModel(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	m := newModel(t)
	m.editor = newEditor(t, m.from, m.seed)
	m.run(lasting(t, 30*time.Second))
}

// TestModelInotify is the same with a primary that may not use fanotify. It can't
// read trusted attributes either.
func TestModelInotify(t *testing.T) {
	t.Parallel()
	testfs.NeedRoot(t)
	m := newModel(t, testfs.NeedProgram(t, "setpriv", "util-linux"), "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", "--")
	m.editor = newEditor(t, m.from, m.seed)
	m.editor.untrusted = true
	m.run(lasting(t, 15*time.Second))
	if log := m.primary.tail(10_000); !strings.Contains(log, `"watching by"=inotify`) {
		t.Errorf("the primary did not watch by inotify:\n%s", log)
	}
}

// lasting is how long a random test lasts.
func lasting(t *testing.T, usual time.Duration) time.Duration {
	t.Helper()
	soak := os.Getenv("REPLD_SOAK")
	if soak == "" {
		return usual
	}
	length, err := time.ParseDuration(soak)
	if err != nil {
		t.Fatalf("REPLD_SOAK: %v", err)
	}
	return length
}

func newModel(t *testing.T, before ...string) *model {
	t.Helper()
	testfs.NeedProgram(t, "rsync", "rsync")
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -seed %d", seed)
	return &model{pair: newPair(t, seed, before...), seed: seed, rng: rand.New(rand.NewPCG(seed, 2))}
}

func (m *model) run(length time.Duration) {
	m.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); {
		m.round()
	}
	m.t.Logf("%d rounds, %d operations, %d kills of the primary, %d of the standby, %d cuts of the link, %d pauses",
		m.rounds, m.operations, m.primaryKills, m.standbyKills, m.cuts, m.pauses)
}

// model is a run of the random test.
type model struct {
	*pair
	seed   uint64
	rng    *rand.Rand // of what happens to the daemons
	editor *editor
	paused bool
	cut    bool

	rounds, operations, primaryKills, standbyKills, cuts, pauses int
}

// round does a burst of operations with trouble in between, and then compares.
func (m *model) round() {
	m.t.Helper()
	m.rounds++
	var told []string
	defer func() {
		if m.t.Failed() {
			m.t.Logf("round %d: %v", m.rounds, told)
		}
	}()
	for range 2 + m.rng.IntN(4) {
		for range m.rng.IntN(60) {
			m.editor.step()
			m.operations++
		}
		told = append(told, fmt.Sprintf("%d: %s", m.operations, m.trouble()))
	}
	m.calm()
	m.equal()
}

// trouble is one thing that happens to the daemons.
func (m *model) trouble() string {
	switch m.rng.IntN(10) {
	case 0, 1:
		m.primaryKills++
		m.primary.kill()
		for range m.rng.IntN(20) {
			m.editor.step()
			m.operations++
		}
		m.primary.start()
		return "killed the primary"
	case 2, 3:
		m.standbyKills++
		m.standby.kill()
		m.standby.start()
		return "killed the standby"
	case 4:
		m.standbyKills++
		m.primaryKills++
		m.standby.kill()
		m.primary.kill()
		m.primary.start()
		m.standby.start()
		return "killed both"
	case 5:
		m.cuts++
		m.cut = !m.cut
		if m.cut {
			m.relay.Cut()
			return "cut the link"
		}
		m.relay.Mend()
		return "mended the link"
	case 6:
		m.pauses++
		m.standby.up()
		m.paused = !m.paused
		if m.paused {
			m.standby.must("pause")
			return "paused"
		}
		m.resume()
		return "resumed"
	case 7:
		m.primary.up()
		m.primary.ctl("barrier", "--timeout", "500ms")
		return "captured a barrier"
	case 8:
		m.primary.up()
		m.primary.ctl("barrier", "--wait", "applied", "--timeout", fmt.Sprintf("%dms", 1+m.rng.IntN(1000)))
		return "waited for a barrier"
	}
	// A time in which barriers are cut by themselves.
	m.primary.up()
	<-time.After(time.Duration(m.rng.IntN(1500)) * time.Millisecond)
	return "let it run"
}

// calm ends all trouble.
func (m *model) calm() {
	m.t.Helper()
	m.relay.Mend()
	m.cut = false
	m.primary.up()
	m.standby.up()
	if m.paused {
		m.resume()
		m.paused = false
	}
	m.linked()
}

// resume ends a pause. A guard that has halted the standby meanwhile, since most of a tree
// was removed, stays; settle has an operator agree.
func (m *model) resume() {
	m.t.Helper()
	if r := m.standby.ctl("resume"); r.code != 0 && (r.code != 4 || !strings.Contains(r.stderr, "the pause has ended, but")) {
		m.t.Fatalf("resume: exit %d\n%s", r.code, r.stderr)
	}
}
