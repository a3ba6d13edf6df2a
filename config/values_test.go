package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// values runs a parser over texts; what is refused has the start of its error.
func values[T comparable](t *testing.T, parse func(string) (T, error), good map[string]T, bad map[string]string) {
	t.Helper()
	for text, want := range good {
		if found, err := parse(text); err != nil || found != want {
			t.Errorf("%q: found %v and error %v, want %v", text, found, err, want)
		}
	}
	for text, hint := range bad {
		found, err := parse(text)
		var e *valueError
		if !errors.As(err, &e) {
			t.Errorf("%q: found %v and error %v, want a value error", text, found, err)
			continue
		}
		if e.hint != hint {
			t.Errorf("%q: found the hint %q, want %q", text, e.hint, hint)
		}
	}
}

func TestSize(t *testing.T) {
	values(t, ParseSize, map[string]Size{
		"1": 1, "4096": 4096, "1B": 1, "8GiB": 8 << 30, "50MB": 50e6, "50 MB": 50e6, "1.5TiB": 3 << 39, "2kB": 2000, "2KB": 2000, "2KiB": 2048,
		"0.5KiB": 512, "9223372036854775807": 9223372036854775807, "8388607TiB": 8388607 << 40,
	}, map[string]string{
		"": "", "0": "", "-1": "", "GiB": "", "8XB": "", "0GiB": "", "1e3": "", "1.2.3MB": "", "8  GiB": "", "0x10": "", "1_0": "", "0.1B": "",
		"9223372036854775808": "", "8388608TiB": "", "∞": "",
		"8gib": "did you mean 8GiB?", "8mb": "did you mean 8MB?",
		"8G": "did you mean 8GiB (powers of 1024) or 8GB (of 1000)?", "8k": "did you mean 8KiB (powers of 1024) or 8KB (of 1000)?",
	})
	for s, want := range map[Size]string{0: "0", 1: "1", 1000: "1kB", 1024: "1KiB", 8 << 30: "8GiB", 50e6: "50MB", 1<<30 + 1: "1073741825"} {
		if s.String() != want {
			t.Errorf("%d: found %s, want %s", int64(s), s, want)
		}
	}
}

func TestRate(t *testing.T) {
	values(t, ParseRate, map[string]Rate{
		"unlimited": 0, "50MB/s": 50e6, "20MiB/s": 20 << 20, "400Mbit/s": 50e6, "8kbit/s": 1000, "1 Gbit/s": 125e6, "100B/s": 100,
	}, map[string]string{
		"": "", "0": "", "0MB/s": "", "/s": "", "fast": "", "-1MB/s": "", "1bit/s": "", "100/s": "did you mean 100B/s?",
		"50MB": "a rate ends in /s", "50": "a rate ends in /s",
		"50mb/s": "did you mean 50MB/s?", "50M/s": "did you mean 50MiB/s (powers of 1024) or 50MB/s (of 1000)?",
	})
	for r, want := range map[Rate]string{0: "unlimited", 100: "100B/s", 50e6: "50MB/s", 20 << 20: "20MiB/s"} {
		if r.String() != want {
			t.Errorf("%d: found %s, want %s", int64(r), r, want)
		}
	}
}

func TestPercent(t *testing.T) {
	values(t, ParsePercent, map[string]Percent{"50%": 50, "2.5%": 2.5, "100%": 100, "5 %": 5},
		map[string]string{"": "", "%": "", "0%": "", "101%": "", "-5%": "", "5%%": "", "half": "", "50": "did you mean 50%?", "0.5": "did you mean 0.5%?"})
}

func TestReserve(t *testing.T) {
	values(t, ParseReserve, map[string]Reserve{"5%": {Percent: 5}, "20GiB": {Bytes: 20 << 30}, "1MiB": {Bytes: 1 << 20}},
		map[string]string{"": "", "100%": "", "0": "", "0%": "", "-1GiB": "", "much": ""})
	for _, c := range []struct {
		r          Reserve
		disk, want uint64
	}{
		{Reserve{Percent: 5}, 1000 << 30, 50 << 30},
		{Reserve{Percent: 5}, 10 << 30, 1 << 30}, // at least 1 GiB
		{Reserve{Percent: 2.5}, 1000 << 30, 25 << 30},
		{Reserve{Percent: 99}, 1<<64 - 1, 18262276632972456098}, // nothing overflows
		{Reserve{Bytes: 1 << 20}, 10 << 30, 1 << 20},            // as it stands
		{Reserve{}, 1000 << 30, 1 << 30},
	} {
		if found := c.r.Of(c.disk); found != c.want {
			t.Errorf("%v of %d: found %d, want %d", c.r, c.disk, found, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	values(t, ParseDuration, map[string]time.Duration{
		"1s": time.Second, "50ms": 50 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "168h": 168 * time.Hour,
		"7d": 7 * day, "1d12h": 36 * time.Hour, "0d1s": time.Second, "106751d": 106751 * day,
	}, map[string]string{
		"": "", "0": "", "0s": "", "0d": "", "-1s": "", "1d-1s": "", "d": "", "1 s": "", "1w": "", "1.5d": "", "1h1d": "", "106752d": "",
		"106751d24h": "", "999999d": "", "9999999999h": "", "10": "did you mean 10s?",
	})
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m", time.Minute: "1m", 10 * time.Second: "10s",
		50 * time.Millisecond: "50ms", 0: "0s", 10*time.Minute + 10*time.Second: "10m10s", 20 * time.Hour: "20h", 100 * time.Minute: "1h40m",
	} {
		if found := short(d); found != want {
			t.Errorf("%v: found %s, want %s", d, found, want)
		}
	}
}

func TestTimeOfDay(t *testing.T) {
	values(t, ParseTimeOfDay, map[string]TimeOfDay{"00:00": 0, "08:00": 480, "23:59": 1439, "24:00": 1440},
		map[string]string{"": "", "8:00": "", "24:01": "", "12:60": "", "08:00:00": "", "-1:00": "", "noon": "", "480": ""})
	if s := TimeOfDay(485).String(); s != "08:05" {
		t.Errorf("found %s, want 08:05", s)
	}
}

func TestBandwidthAt(t *testing.T) {
	b := Bandwidth{Limit: 1, Windows: []Window{{From: 480, To: 1080, Limit: 2}, {From: 1320, To: 360, Limit: 3}}}
	for clock, want := range map[string]Rate{
		"07:59": 1, "08:00": 2, "17:59": 2, "18:00": 1, "21:59": 1, "22:00": 3, "23:59": 3, "00:00": 3, "05:59": 3, "06:00": 1,
	} {
		at, err := time.ParseInLocation("2006-01-02 15:04", "2026-03-29 "+clock, time.FixedZone("CEST", 7200))
		if err != nil {
			t.Fatal(err)
		}
		if found := b.At(at); found != want {
			t.Errorf("%s: found %d, want %d", clock, found, want)
		}
	}
}

func TestWindowsOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b Window
		want bool
	}{
		{Window{From: 60, To: 120}, Window{From: 120, To: 180}, false},
		{Window{From: 60, To: 121}, Window{From: 120, To: 180}, true},
		{Window{From: 60, To: 180}, Window{From: 90, To: 120}, true},
		{Window{From: 1320, To: 360}, Window{From: 360, To: 1320}, false},
		{Window{From: 1320, To: 360}, Window{From: 0, To: 10}, true},
		{Window{From: 1320, To: 360}, Window{From: 1380, To: 1440}, true},
		{Window{From: 1320, To: 1440}, Window{From: 0, To: 360}, false},
		{Window{From: 1320, To: 0}, Window{From: 0, To: 360}, false},
		{Window{From: 1320, To: 10}, Window{From: 1400, To: 5}, true},
	} {
		if c.a.overlaps(c.b) != c.want || c.b.overlaps(c.a) != c.want {
			t.Errorf("%v and %v overlap: want %v", c.a, c.b, c.want)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(string) (string, error)
		good  map[string]string
		bad   []string
	}{
		{"name", checkName, map[string]string{"a": "a", "Web-1.example_x": "Web-1.example_x", strings.Repeat("a", 64): strings.Repeat("a", 64)},
			[]string{"", ".", "..", "-a", ".a", "a/b", "a b", "ä", "a\n", strings.Repeat("a", 65)}},
		{"path", checkPath, map[string]string{"/": "/", "/a": "/a", "/a//b/": "/a/b", "/a b/ü": "/a b/ü"},
			[]string{"", "a", "./a", "~/a", "/a/../b", "/a/./b", "/..", "/a\x00", "/a\nb", "/\xff"}},
		{"socket", checkSocket, map[string]string{"/run/x": "/run/x"}, []string{"x", "/" + strings.Repeat("a", 107)}},
		{"listen", checkListen, map[string]string{":7440": ":7440", "127.0.0.1:0": "127.0.0.1:0", "[::1]:1": "[::1]:1",
			"[fe80::1%eth0]:1": "[fe80::1%eth0]:1", "a.b-c:65535": "a.b-c:65535"},
			[]string{"", "7440", ":", ":http", ":65536", ":-1", "::1", "a b:1", "-a:1", "http://a:1", "[a]b:1"}},
		{"address", checkAddress, map[string]string{"10.0.0.2:7440": "10.0.0.2:7440", "host:1": "host:1", "[::1]:1": "[::1]:1"},
			[]string{"", ":7440", "host", "host:0", "10.0.0.2"}},
		{"pattern", checkPattern, map[string]string{"*.tmp": "*.tmp", "cache/**": "cache/**", "**/{a,b}/[!x]?": "**/{a,b}/[!x]?", "a\\*": "a\\*", ".git": ".git", "/a": "/a",
			"a/": "a/", "\\!a": "\\!a", "a\tb": "a\tb"},
			[]string{"", "/", "//", "a//b", "//a", "a//", "a/../b", ".", "a[", "{a", "a\\", "a\x00b", "!a", "*", "**", "**/*", "/**"}},
		{"URL", checkURL, map[string]string{"https://a/b?c=d": "https://a/b?c=d", "http://[::1]:8080": "http://[::1]:8080"},
			[]string{"", "a", "ftp://a", "https://", "//a/b", "http://a b/"}},
	} {
		for text, want := range c.good {
			if found, err := c.check(text); err != nil || found != want {
				t.Errorf("%s %q: found %q and error %v, want %q", c.name, text, found, err, want)
			}
		}
		for _, text := range c.bad {
			if found, err := c.check(text); err == nil {
				t.Errorf("%s %q: found %q, want an error", c.name, text, found)
			} else if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%s %q: the error is not one line: %q", c.name, text, err)
			}
		}
	}
}

func TestNear(t *testing.T) {
	words := topLevel.keys
	for found, want := range map[string]string{
		"nod": "node", "Node": "node", "designatd": "designated", "group": "groups", "lisetn": "listen", "start-alone": "start_alone",
		"disk-reserve": "disk_reserve", "x": "", "": "", "databases": "", strings.Repeat("node", 100): "",
	} {
		if word := near(found, words); word != want {
			t.Errorf("%q: found %q, want %q", found, word, want)
		}
	}
}

func TestQuote(t *testing.T) {
	if found := quote(strings.Repeat("ü", 100)); found != fmt.Sprintf("%q", strings.Repeat("ü", 80)+"…") {
		t.Errorf("found %s", found)
	}
}
