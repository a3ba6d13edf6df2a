package postgres

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"repld/change"
	"repld/durable"
)

func TestLSN(t *testing.T) {
	for s, want := range map[string]LSN{"0/0": 0, "0/1A2B3C8": 0x1A2B3C8, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "16/B374D848": 0x16B374D848} {
		got, err := ParseLSN(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%s is %d (%v), error %v", s, got, got, err)
		}
	}
	for _, s := range []string{"", "/", "0", "1/", "g/1", "100000000/0", "0/-1", "0/1/2"} {
		if got, err := ParseLSN(s); err == nil {
			t.Errorf("%q is %v, want an error", s, got)
		}
	}
}

func TestRecordEnd(t *testing.T) {
	const segment = 1 << 20
	for in, want := range map[LSN]LSN{
		0x100000: 0x100000, 0x100028: 0x100000, 0x100030: 0x100030, // a segment's first page
		0x102000: 0x102000, 0x102018: 0x102000, 0x102020: 0x102020, 0x103ff8: 0x103ff8,
	} {
		if got := recordEnd(in, segment); got != want {
			t.Errorf("a record that ends at %v ends at %v, want %v", in, got, want)
		}
	}
}

const someHistory = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000028\tx\n# comment\n5\t1/0\tbefore 2026-01-01\n"

func TestLineage(t *testing.T) {
	forks, err := parseHistory(someHistory)
	must(t, err)
	l := lineage{timeline: 7, forks: forks}
	for timeline, want := range map[uint32]struct {
		end             LSN
		next            uint32
		historic, known bool
		begin           LSN
	}{
		1: {0x3000000, 2, true, true, 0}, 2: {0x5000028, 5, true, true, 0x3000000}, 5: {1 << 32, 7, true, true, 0x5000028},
		7: {0, 0, false, true, 1 << 32}, 3: {0, 0, false, false, 0x5000028},
	} {
		end, next, historic, known := l.end(timeline)
		if end != want.end || next != want.next || historic != want.historic || known != want.known || l.begin(timeline) != want.begin {
			t.Errorf("timeline %d: %v %d %v %v from %v, want %+v", timeline, end, next, historic, known, l.begin(timeline), want)
		}
	}
	for at, want := range map[LSN]uint32{0: 1, 0x2ffffff: 1, 0x3000000: 2, 0x5000028: 5, 1 << 32: 7} {
		if got := l.at(at); got != want {
			t.Errorf("%v is on timeline %d, want %d", at, got, want)
		}
	}
	if got := historyBefore(someHistory, 5); got != "1\t0/3000000\tno recovery target specified\n2\t0/5000028\tx\n" {
		t.Errorf("the history of timeline 5 is %q", got)
	}
	for _, bad := range []string{"x", "1", "1\tx", "2\t0/1\n1\t0/2", "1\t0/5\n2\t0/4"} {
		if _, err := parseHistory(bad); err == nil {
			t.Errorf("history %q was taken", bad)
		}
	}
}

func TestCommandsOfReplicas(t *testing.T) {
	for sql, want := range map[string][2]string{
		`START_REPLICATION 0/3000000 TIMELINE 1`:                        {"0/3000000", "1"},
		`START_REPLICATION SLOT "a b" 0/3000000 TIMELINE 12`:            {"0/3000000", "12"},
		`START_REPLICATION SLOT abc PHYSICAL 1A/FF`:                     {"1A/FF", ""},
		`start_replication physical 1A/FF timeline 3`:                   {"1A/FF", "3"},
		`START_REPLICATION SLOT "x" LOGICAL 0/0 (proto_version '1')`:    {},
		`START_REPLICATION 0/3000000 TIMELINE 1; DROP_REPLICATION_SLOT`: {},
	} {
		m := startCommand.FindStringSubmatch(sql)
		if want == ([2]string{}) != (m == nil) || m != nil && (m[1] != want[0] || m[2] != want[1]) {
			t.Errorf("%s: %q, want %q", sql, m, want)
		}
	}
}

func TestGateStateSurvivesATornWrite(t *testing.T) {
	dir := t.TempDir()
	g, st, err := openGateFile(dir)
	must(t, err)
	if st != (gateState{}) {
		t.Fatalf("a new gate is at %+v", st)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(dir, "gate")
	before := gateState{}
	for i := range 20 {
		next := gateState{gate: change.StreamPosition{Chapter: 1, Offset: uint64(i + 1)}, floor: change.StreamPosition{Chapter: 2, Offset: rng.Uint64()}}
		old, err := os.ReadFile(path)
		must(t, err)
		must(t, g.save(next))
		written, err := os.ReadFile(path)
		must(t, err)
		for range 10 { // any share of what was written may be there
			torn := append([]byte(nil), old...)
			for j := range torn {
				if rng.IntN(2) == 0 {
					torn[j] = written[j]
				}
			}
			_, got, err := decodeGate(path, torn)
			must(t, err)
			if got != before && got != next {
				t.Fatalf("a torn state is %+v, want %+v or %+v", got, before, next)
			}
		}
		before = next
	}
	must(t, g.close())
	g, st, err = openGateFile(dir)
	must(t, err)
	defer g.close()
	if st != before {
		t.Fatalf("opened again the gate is at %+v, want %+v", st, before)
	}
	var damage *durable.DamageError
	for _, zeros := range []int{0, stateSector, 3 * stateSector} {
		if _, _, err := decodeGate(path, make([]byte, zeros)); !errors.As(err, &damage) || damage.Path != path {
			t.Errorf("%d zeros are taken for a gate: %v", zeros, err)
		}
	}
}

// TestSCRAM is the example of RFC 7677.
func TestSCRAM(t *testing.T) {
	const clientNonce, serverNonce = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	salt := []byte{0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81}
	x, challenge, err := newExchange("pencil", "n,,n=user,r="+clientNonce, serverNonce, salt)
	must(t, err)
	if want := "r=" + clientNonce + serverNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; challenge != want {
		t.Fatalf("challenge %s, want %s", challenge, want)
	}
	const final = "c=biws,r=" + clientNonce + serverNonce + ",p="
	signature, err := x.finish(final + "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	must(t, err)
	if signature != "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Fatalf("signature %s", signature)
	}
	for _, bad := range []string{"", "c=biws", final + "AAAA", final + "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=", "c=eSws,r=x,p="} {
		if _, err := x.finish(bad); err == nil {
			t.Errorf("%q was let in", bad)
		}
	}
	for _, bad := range []string{"", "p=tls-unique,,n=,r=x", "n,,n=user", "n,,r="} {
		if _, _, err := newExchange("pencil", bad, serverNonce, salt); err == nil {
			t.Errorf("%q was answered", bad)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add(someHistory, uint32(5))
	f.Add("1\t0/0", uint32(2))
	f.Fuzz(func(t *testing.T, content string, timeline uint32) {
		forks, err := parseHistory(content)
		if err != nil {
			return
		}
		before, err := parseHistory(historyBefore(content, timeline))
		must(t, err)
		l := lineage{timeline: 1<<32 - 1, forks: forks}
		for i, k := range before {
			if k != forks[i] || k.timeline >= timeline {
				t.Fatalf("fork %d of the timelines before %d is %+v, want %+v", i, timeline, k, forks[i])
			}
		}
		for _, k := range forks {
			if end, _, historic, known := l.end(k.timeline); k.timeline != l.timeline && (!known || !historic || end != k.at) {
				t.Fatalf("timeline %d ends at %v, want %v", k.timeline, end, k.at)
			}
		}
	})
}
