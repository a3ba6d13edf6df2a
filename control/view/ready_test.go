package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"repld/health"
	"repld/parity"
	"repld/ready"
)

func TestReady(t *testing.T) {
	r := ready.Ready{
		Node: "slayer", Peer: "megadeth", To: "megadeth",
		Checks: []ready.Check{
			{Name: "link", OK: true, Severity: health.Critical, Text: "the link is up"},
			{Name: "hooks", Severity: health.Critical, Text: "megadeth, promote hook exec /x: \x1b[31mno\nsuch file", Hint: "make it"},
			{Name: "clock", Severity: health.Warning, Text: "the clocks are 3s apart, want at most 2s", Hint: "see to it"},
		},
		Parity:   []parity.Difference{{What: "kernel", Severity: health.Info, Text: "kernel: 6.1 on slayer, 6.12 on megadeth"}},
		Estimate: &ready.Estimate{Seconds: 1.418, Longest: 2.1, From: 3, Steps: []ready.Elapsed{{Step: "demote", Seconds: 1}, {Step: "grant", Seconds: 0.004}}},
	}
	const want = `ready       no: a cutover to megadeth would not work now, 1 thing is in the way
takes       about 1.418s, the median of the last 3; the longest took 2.1s (demote 1s, grant 4ms)
check       ok       link: the link is up
check       CRITICAL hooks: megadeth, promote hook exec /x: [31mno such file
                     → make it
check       WARNING  clock: the clocks are 3s apart, want at most 2s
                     → see to it
parity      info     kernel: 6.1 on slayer, 6.12 on megadeth
`
	var b bytes.Buffer
	if err := Ready(&b, &r); err != nil || b.String() != want {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

func TestInTheWay(t *testing.T) {
	const want = `It would not work now, 2 things are in the way:
check       CRITICAL link: the link is down
                     → see network
check       CRITICAL lag a: the lag is unknown
`
	var b bytes.Buffer
	bad := []ready.Check{{Name: "link", Severity: health.Critical, Text: "the link is down", Hint: "see network"}, {Name: "lag a", Severity: health.Critical, Text: "the lag is\nunknown"}}
	if err := InTheWay(&b, bad); err != nil || b.String() != want {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

func TestReadyAnswers(t *testing.T) {
	warning := ready.Check{Name: "clock", Severity: health.Warning}
	for _, c := range []struct {
		r    ready.Ready
		want string
	}{
		{ready.Ready{Ready: true, To: "b"}, "ready       yes: a cutover to b would work now\ntakes       unknown: no cutover was measured yet\n"},
		{ready.Ready{Ready: true, Checks: []ready.Check{warning, warning}, Estimate: &ready.Estimate{Seconds: 2, From: 1}},
			"ready       yes: a cutover would work now, with 2 warnings\ntakes       about 2s, as the last one\n"},
	} {
		var b bytes.Buffer
		if err := Ready(&b, &c.r); err != nil || !strings.HasPrefix(b.String(), c.want) {
			t.Errorf("%v, got\n%s, want\n%s", err, b.String(), c.want)
		}
	}
	var many ready.Ready
	for i := range 25 {
		many.Parity = append(many.Parity, parity.Difference{Severity: health.Info, Text: fmt.Sprint(i)})
	}
	var b bytes.Buffer
	if err := Ready(&b, &many); err != nil || !strings.HasSuffix(b.String(), "parity      info     19\nparity      5 more differences: --json lists them\n") {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}
