package tree

import "testing"

func TestSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-cloud-amd64": true, "6.16.0": true, "6.16-rc3": true, "7.0.1": true, "10.2": true,
		"6.15.9": false, "6.1.0-41-amd64": false, "5.17.1": false, "6": false, "": false, "x.y": false,
	} {
		if got := since(release, 6, 16); got != want {
			t.Errorf("%q is 6.16 or later: %t", release, got)
		}
	}
}
