package config

import (
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is found as what is wanted")

func TestEveryKey(t *testing.T) {
	c, err := Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	warn := slog.LevelWarn
	sounz, shop := DefaultGroup(), DefaultGroup()
	sounz.Bandwidth = Bandwidth{Limit: 50e6, Windows: []Window{
		{From: 8 * 60, To: 18 * 60, Limit: 10e6}, {From: 22 * 60, To: 6 * 60, Limit: 0},
	}}
	sounz.Barrier.Freeze = Freeze{Cgroup: "/system.slice/sounz.service", Max: 40 * time.Millisecond}
	shop.History.Keep = 0
	shop.Rescan.Every = 7 * 24 * time.Hour
	want := &Config{
		Node: "slayer", Designated: Primary, Listen: ":7440", State: "/var/lib/repld", Control: "/run/repld/control.sock",
		HTTP: "127.0.0.1:7441", Peer: Peer{Name: "megadeth", Address: "megadeth.example.net:7440"},
		Groups: []Group{
			{Name: "sounz", Trees: []Tree{
				{Name: "data", Path: "/data/sounz", Exclude: []string{"cache/**", "*.tmp"}, AppendOnly: []string{"log/*.log"}, Watch: WatchAuto},
				{Name: "home", Path: "/usr/share/sounz", Staging: "/usr/share/.repld-sounz", Watch: WatchAuto},
			}, GroupLive: sounz},
			{Name: "shop", Trees: []Tree{{Name: "www", Path: "/srv/shop/www", Watch: WatchPoll}}, GroupLive: shop},
		},
		StartAlone: StartHold, Coordination: fullCoordination,
		Live: Live{DiskReserve: Reserve{Percent: 5}, LogLevel: &warn, Hooks: fullHooks, Parity: fullParity, Alerts: []Alert{
			{Exec: []string{"/usr/local/bin/mail-ops"}, AtMostEvery: 5 * time.Minute, Timeout: 30 * time.Second},
			{Post: "https://ops.example.net/alerts", Headers: []Header{{"X-Team", "ops"}}, HeadersFile: "/etc/repld/alert-headers",
				AtMostEvery: 5 * time.Minute, Timeout: 10 * time.Second},
		}},
	}
	c.source = source{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("found\n%+v\nwant\n%+v", c, want)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Load("testdata/good/least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Designated: Secondary, Listen: ":7440", State: "/var/lib/repld", Control: "/run/repld/control.sock",
		Groups:     []Group{{Name: "tree", Trees: []Tree{{Name: "tree", Path: "/srv/data", Watch: WatchAuto}}, GroupLive: DefaultGroup()}},
		StartAlone: StartHold,
		Live:       Live{DiskReserve: Reserve{Percent: 5}},
	}
	c.source = source{}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("found\n%+v\nwant\n%+v", c, want)
	}
}

// The bad files say in their ".want" what is told about them, line by line.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse("repld.yaml", data)
			var errs Errors
			if !errors.As(err, &errs) || c != nil {
				t.Fatalf("found no errors but %v and %v", c, err)
			}
			found := errs.Error() + "\n"
			if golden := strings.TrimSuffix(file, "yaml") + "want"; *update {
				if err := os.WriteFile(golden, []byte(found), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if want, err := os.ReadFile(golden); err != nil || string(want) != found {
				t.Errorf("found\n%swant\n%s%v", found, want, err)
			}
			if strings.Count(found, "\n") != len(errs) {
				t.Errorf("%d errors in %d lines", len(errs), strings.Count(found, "\n"))
			}
		})
	}
}

func TestLoadUnreadable(t *testing.T) {
	_, err := Load("testdata/none.yaml")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	var e *Error
	if want := "testdata/none.yaml: can't be read: no such file or directory"; !errors.As(err, &e) || e.Error() != want {
		t.Errorf("found %v, want %s", err, want)
	}
	if _, err := Load("testdata"); err == nil || !strings.HasPrefix(err.Error(), "testdata: can't be read: ") {
		t.Errorf("a directory: %v", err)
	}
}

func TestWrong(t *testing.T) {
	c, err := Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"state":                           "5:8",
		"peer.address":                    "10:33",
		"groups.sounz.trees.data.path":    "14:28",
		"groups.sounz.trees.data.staging": "14:9", // not given
		"groups.shop.trees.www.path":      "25:15",
		"groups.shop.journal.limit":       "22:5",
		"hooks.promote.1.systemd":         "33:17",
		"alerts.0.exec":                   "53:12",
		"alerts.1.http":                   "54:11",
		"coordination.etcd.ttl":           "45:10",
		"parity.commands":                 "56:77",
		"nothing":                         "",
		"groups.none":                     "12:3",
	} {
		found := c.Wrong(key, "do that", "found %d", 1).Error()
		if want = strings.TrimSuffix("testdata/good/full.yaml:"+want, ":") + ": found 1; do that"; found != want {
			t.Errorf("%s: found %s, want %s", key, found, want)
		}
	}
	if found := new(Config).Wrong("state", "", "found nothing").Error(); found != "found nothing" {
		t.Errorf("without a file: found %s", found)
	}
}
