package alert

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// What the operators' documentation says of commands and messages is what they get.
func TestDocumentedAlerts(t *testing.T) {
	text, err := os.ReadFile("../docs/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Alerts\n")
	var got, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(REPLD_[A-Z]+)` ").FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
	}
	for _, v := range testMessage().environment() {
		name, _, _ := strings.Cut(v, "=")
		want = append(want, name)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the table of variables has %q, want %q", got, want)
	}

	example := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(section)
	if example == nil {
		t.Fatal("there is no example of a message")
	}
	d := json.NewDecoder(strings.NewReader(example[1]))
	d.DisallowUnknownFields()
	var m Message
	if err := d.Decode(&m); err != nil {
		t.Fatalf("the example of a message: %v", err)
	}
	made := newMessage(m.Node, m.At, m.Changes, 0, m.Standing)
	a, errA := json.Marshal(m)
	b, errB := json.Marshal(made)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("the example of a message is\n%s\nwant\n%s", a, b)
	}
}
