package ready

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"repld/health"
	"repld/parity"
)

// fine are facts with which a cutover would work.
func fine() Facts {
	facts := func(node string) *parity.Facts {
		return &parity.Facts{Format: parity.Format, Node: node, Kernel: "6.1"}
	}
	return Facts{
		Node: "slayer", Peer: "megadeth", Role: "production", Status: "production", PeerRole: "standby", LinkUp: true,
		Skew: new(3 * time.Millisecond), SkewLimit: 2 * time.Second, Version: "0.1.0", PeerVersion: "0.1.0",
		Groups:       []Group{{Name: "sounz", Phase: "streaming", Lag: new(210 * time.Millisecond), Barrier: new(time.Second), Late: 10 * time.Second}},
		Disks:        []Disk{{Node: "slayer", What: "state", Free: 100 << 30, Size: 200 << 30, Reserve: 10 << 30}, {Node: "megadeth", What: "tree sounz/data", Free: 11 << 30, Reserve: 10 << 30}},
		Hooks:        []Hook{{Node: "megadeth", List: "promote", Hook: "exec /bin/true"}},
		Checks:       []Probe{{Hook: "http GET 127.0.0.1", Took: 12 * time.Millisecond}},
		Databases:    []Database{{Group: "sounz", Name: "main", Engine: "postgres", Connected: true, Distance: new(uint64(4096))}},
		Coordination: &Coordination{Answers: true, Holder: "slayer", DemoteWithin: 5 * time.Second, HookTimeouts: 4 * time.Second},
		Here:         facts("slayer"), There: facts("megadeth"),
		Runs: []Run{{Kind: "cutover", Seconds: 1.4, Steps: []Elapsed{{"demote", 1}, {"grant", 0.4}}}},
	}
}

func TestFine(t *testing.T) {
	r := Report(fine())
	var found []string
	for _, c := range r.Checks {
		if !c.OK || c.Hint != "" {
			t.Errorf("found %+v", c)
		}
		found = append(found, c.Name+": "+c.Text)
	}
	want := []string{
		"roles: slayer is production, megadeth is standby", "plan: no change of roles is under way", "link: the link is up",
		"phase sounz: the group is streaming", "lag sounz: the lag is 210ms", "barrier sounz: the newest applied barrier was confirmed 1s ago",
		"disk: there is space on both nodes", "version: both nodes have repld 0.1.0", "clock: the clocks are 3ms apart", "hooks: 1 hook could run",
		"check http GET 127.0.0.1: well after 10ms", "database sounz/main: the replica follows, 4.0 KiB behind",
		"coordination: etcd answers, slayer has the lease", "health: nothing critical stands", "parity: nothing differs of what is compared",
	}
	if strings.Join(found, "\n") != strings.Join(want, "\n") {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
	if !r.Ready || r.To != "megadeth" || r.Estimate == nil || r.Estimate.Seconds != 1.4 {
		t.Errorf("found %+v", r)
	}
	standby := fine()
	standby.Role, standby.PeerRole = "standby", "production"
	if r := Report(standby); !r.Ready || r.To != "slayer" {
		t.Errorf("asked on the standby: %+v", r)
	}
}

// One thing wrong each: what is told, and whether a cutover would work.
func TestTrouble(t *testing.T) {
	for _, c := range []struct {
		change func(*Facts)
		name   string
		text   string
		ready  bool
	}{
		{func(f *Facts) { f.Role = "down" }, "roles", "slayer is down, megadeth is standby: want one in production and one standing by", false},
		{func(f *Facts) { f.PeerRole = "" }, "roles", "megadeth is unknown", false},
		{func(f *Facts) { f.Plan = "rejoin" }, "plan", "found a rejoin under way", false},
		{func(f *Facts) { f.LinkUp = false }, "link", "the link is down", false},
		{func(f *Facts) { f.Groups[0].Phase = "paused" }, "phase sounz", "the group is paused", false},
		{func(f *Facts) { f.Groups[0].Lag = nil }, "lag sounz", "unknown", false},
		{func(f *Facts) { f.Groups[0].Lag = new(time.Minute) }, "lag sounz", "found a lag of 1m0s, want at most 10s", false},
		{func(f *Facts) { f.Groups[0].Lag, f.Groups[0].MaxLag = new(3*time.Second), new(time.Second) }, "lag sounz", "found a lag of 3s, want at most 1s", false},
		{func(f *Facts) { f.Groups[0].Barrier = nil }, "barrier sounz", "no applied barrier", false},
		{func(f *Facts) { f.Groups[0].Barrier = new(time.Minute) }, "barrier sounz", "confirmed 1m0s ago, want at most 10s", true},
		{func(f *Facts) { f.Groups[0].Uncovered = 2 }, "uncovered sounz", "2 files", true},
		{func(f *Facts) { f.Disks[1].Free = 10 << 30 }, "disk", "tree sounz/data on megadeth: found 10 GiB free, want more than 10 GiB", false},
		{func(f *Facts) { f.Disks[1].Unknown = "no such file" }, "disk", "no such file", true},
		{func(f *Facts) { f.Disks = nil }, "disk", "nobody has looked", false},
		{func(f *Facts) { f.PeerVersion = "0.2.0" }, "version", "found repld 0.1.0 here and 0.2.0 there", true},
		{func(f *Facts) { f.PeerVersion = "" }, "version", "unknown", true},
		{func(f *Facts) { f.Skew = nil }, "clock", "unknown", true},
		{func(f *Facts) { f.Skew = new(-3 * time.Second) }, "clock", "the clocks are 3s apart, want at most 2s", true},
		{func(f *Facts) { f.Hooks[0].Failure = "no such file" }, "hooks", "megadeth, promote hook exec /bin/true: no such file", false},
		{func(f *Facts) { f.Checks[0].Failure = "found 500, want 200" }, "check http GET 127.0.0.1", "found 500", true},
		{func(f *Facts) { f.Databases[0].Failure = "it is gone" }, "database sounz/main", "it is gone", false},
		{func(f *Facts) { f.Databases[0].Connected = false }, "database sounz/main", "doesn't follow", false},
		{func(f *Facts) { f.Coordination.Answers, f.Coordination.Err = false, "timed out" }, "coordination", "etcd doesn't answer: timed out", false},
		{func(f *Facts) { f.Coordination.HookTimeouts = 30 * time.Second }, "demotion", "may take 30s, but are killed after 5s", true},
		{func(f *Facts) {
			f.Conditions = []health.Condition{{Code: health.JournalFull, Severity: health.Critical, Group: "sounz", Text: "full", Hint: "h"}, {Code: health.LinkDown, Severity: health.Warning}}
		}, "health journal-full sounz", "full", false},
		{func(f *Facts) { f.There = nil }, "parity", "not known yet", true},
		{func(f *Facts) { f.There.Distribution, f.Here.Distribution = "a", "b" }, "parity", "found 1 difference that may matter", true},
	} {
		f := fine()
		c.change(&f)
		r := Report(f)
		bad := append(r.Failed(health.Critical), r.Failed(health.Warning)...)
		if len(bad) != 1 || bad[0].Name != c.name || !strings.Contains(bad[0].Text, c.text) || r.Ready != c.ready {
			t.Errorf("want %s: %q and ready %v, found %v, %+v", c.name, c.text, c.ready, r.Ready, bad)
		}
	}
	// A kernel that differs is told, and no trouble.
	f := fine()
	f.There.Kernel = "6.12"
	if r := Report(f); !r.Ready || len(r.Parity) != 1 || len(r.Failed(health.Warning)) != 0 {
		t.Errorf("found %+v", r)
	}
	// Nothing known is nothing well.
	if r := Report(Facts{Node: "n"}); r.Ready || r.To != "" || r.Estimate != nil {
		t.Errorf("found %+v", r)
	}
}

func TestJSON(t *testing.T) {
	f := fine()
	f.LinkUp = false
	r := Report(f)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"ready":false,"node":"slayer","peer":"megadeth","to":"megadeth","checks":[{"name":"roles","ok":true,"severity":"critical","text":`,
		`{"name":"link","ok":false,"severity":"critical","text":"the link is down","hint":"see network`, `"parity":[]`,
		`"estimate":{"seconds":1.4,"most_seconds":1.4,"from":1,"steps":[{"step":"demote","seconds":1},{"step":"grant","seconds":0.4}]}}`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("found %s, want %s", data, want)
		}
	}
	var again Ready
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("found %+v, %v", again, err)
	}
}

func TestDurations(t *testing.T) {
	var d Durations
	if e := EstimateOf(d.Runs); e != nil {
		t.Errorf("of nothing: %+v", e)
	}
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for i := range KeptRuns + 5 {
		d.Add(Run{At: at.Add(time.Duration(i) * time.Hour), Kind: []string{"cutover", "failover"}[i%2], Epoch: uint64(i), Seconds: float64(i),
			Steps: []Elapsed{{"demote", float64(i) / 2}}})
	}
	data, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := UnmarshalDurations(data)
	if err != nil || !reflect.DeepEqual(again, &d) || len(again.Runs) != KeptRuns || again.Runs[0].Epoch != 5 {
		t.Fatalf("found %+v, %v", again, err)
	}
	// The last eight cutovers of 36, 34, … 22 seconds.
	want := &Estimate{Seconds: 29, Longest: 36, From: 8, Steps: []Elapsed{{"demote", 14.5}}}
	if e := EstimateOf(d.Runs); !reflect.DeepEqual(e, want) {
		t.Errorf("found %+v, want %+v", e, want)
	}
	for _, bad := range []string{"", "{", `{"format":2}`, `{"format":1,"runs":[{"seconds":-1}]}`, strings.Repeat(" ", maxDurations+1)} {
		if _, err := UnmarshalDurations([]byte(bad)); err == nil {
			t.Errorf("accepted %.40q", bad)
		}
	}
}
