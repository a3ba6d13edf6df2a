package config

import (
	"fmt"
	"slices"
	"strings"
)

// near returns the word of known that found was most likely meant to be, or "".
func near(found string, known []string) string {
	best, least := "", len(found)
	for _, word := range known {
		d := distance(strings.ToLower(found), word)
		if d < least && d <= (max(len(word), len(found))+2)/3 {
			best, least = word, d
		}
	}
	return best
}

// distance counts the insertions, removals, replacements and exchanges of
// neighbours between a and b (optimal string alignment).
func distance(a, b string) int {
	const longest = 64 // no word that is known is longer; bounds the work
	if len(a) > longest {
		return len(a)
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// suggest says what an unknown key at this place was meant to be: the nearest
// known one here, or a place where it is known, or all that are known here. A key of a
// later version is no help.
func suggest(found string, here *level) string {
	if word := near(found, here.keys); word != "" {
		return fmt.Sprintf("did you mean %q?", word)
	}
	for _, l := range levels {
		if l != here && slices.Contains(l.keys, found) {
			return fmt.Sprintf("%q is a key of %s", found, l.what)
		}
	}
	return "the keys here are " + strings.Join(here.keys, ", ")
}
