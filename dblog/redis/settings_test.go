package redis

import "testing"

// What two servers should share is told by the names of a configuration.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := start(t, "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru")
	found, err := Settings(t.Context(), "unix://"+s.socket(), []string{"Timeout", "no-such-setting"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"maxmemory": "10485760", "maxmemory-policy": "allkeys-lru", "appendonly": "0", "timeout": "0"} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	if found["version"] == "" {
		t.Error("the version is missing")
	}
	if _, ok := found["no-such-setting"]; ok {
		t.Error("a setting that isn't one is found")
	}
	if Down(t.Context(), "unix://"+s.socket()) || Down(t.Context(), "nonsense") {
		t.Error("a server that runs, or can't be asked, counts as down")
	}
	s.kill()
	if !Down(t.Context(), "unix://"+s.socket()) {
		t.Error("a server that was killed doesn't count as down")
	}
	if _, err := Settings(t.Context(), "unix://"+s.socket(), nil); err == nil {
		t.Error("a server that doesn't run has settings")
	}
}
