package health

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The operators' table of codes has every code, with its severity, a meaning and
// the hint that it has here.
func TestDocumentedCodes(t *testing.T) {
	text, err := os.ReadFile("../docs/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Health codes\n")
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([a-z]+) \\| ([^|]+) \\| (.+) \\|$").FindAllStringSubmatch(table, -1)
	var got, want []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s | %s | %s", r[1], r[2], r[4]))
	}
	for _, c := range Codes() {
		severity, hint := Describe(c)
		want = append(want, fmt.Sprintf("%s | %s | %s", c, severity, hint))
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want) || i < len(got) && got[i] != want[i]:
			t.Fatalf("row %d of the table in docs/MONITORING.md is\n%s\nwant the codes in their order, with Describe's severity and hint", i+1, got[i])
		case i >= len(got):
			t.Fatalf("the table in docs/MONITORING.md lacks\n%s\nafter its last row, with what it means in between", want[i])
		}
	}
}
