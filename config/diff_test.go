package config

import (
	"log/slog"
	"reflect"
	"testing"
	"time"
)

func TestDiff(t *testing.T) {
	load := func() *Config {
		c, err := Load("testdata/good/full.yaml")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := Diff(load(), load()); !c.None() {
		t.Errorf("the same configuration: found %+v", c)
	}
	debug := slog.LevelDebug
	for _, c := range []struct {
		key    string
		change func(*Config)
		live   bool
	}{
		{"node", func(c *Config) { c.Node = "x" }, false},
		{"designated", func(c *Config) { c.Designated = Secondary }, false},
		{"listen", func(c *Config) { c.Listen = ":1" }, false},
		{"state", func(c *Config) { c.State = "/x" }, false},
		{"control", func(c *Config) { c.Control = "/x" }, false},
		{"http", func(c *Config) { c.HTTP = "" }, false},
		{"peer", func(c *Config) { c.Peer = Peer{} }, false},
		{"start_alone", func(c *Config) { c.StartAlone = StartServe }, false},
		{"coordination", func(c *Config) { c.Coordination.Etcd.Endpoints[1] = "https://x:1" }, false},
		{"disk_reserve", func(c *Config) { c.DiskReserve.Percent = 6 }, true},
		{"log_level", func(c *Config) { c.LogLevel = &debug }, true},
		{"hooks", func(c *Config) { c.Hooks.Check = nil }, true},
		{"alerts", func(c *Config) { c.Alerts = c.Alerts[:1] }, true},
		{"parity", func(c *Config) { c.Parity.Commands[0][1] = "-V" }, true},
		{"groups.shop (removed)", func(c *Config) { c.Groups = c.Groups[:1] }, false},
		{"groups.new (added)", func(c *Config) { c.Groups = append(c.Groups, Group{Name: "new"}) }, false},
		{"groups.sounz.trees.home (removed)", func(c *Config) { c.Groups[0].Trees = c.Groups[0].Trees[:1] }, false},
		{"groups.sounz.trees.new (added)", func(c *Config) { c.Groups[0].Trees = append(c.Groups[0].Trees, Tree{Name: "new"}) }, false},
		{"groups.sounz.trees.data.path", func(c *Config) { c.Groups[0].Trees[0].Path = "/x" }, false},
		{"groups.sounz.trees.data.exclude", func(c *Config) { c.Groups[0].Trees[0].Exclude = nil }, false},
		{"groups.sounz.trees.data.append_only", func(c *Config) { c.Groups[0].Trees[0].AppendOnly = nil }, false},
		{"groups.sounz.trees.data.staging", func(c *Config) { c.Groups[0].Trees[0].Staging = "/x" }, false},
		{"groups.sounz.trees.data.watch", func(c *Config) { c.Groups[0].Trees[0].Watch = WatchPoll }, false},
		{"groups.sounz.databases", func(c *Config) { c.Groups[0].Databases = []Database{{Name: "x"}} }, false},
		{"groups.sounz.barrier.cgroup", func(c *Config) { c.Groups[0].Barrier.Freeze.Max = time.Second }, false},
		{"groups.sounz.barrier", func(c *Config) { c.Groups[0].Barrier.Every = time.Minute }, true},
		{"groups.sounz.bandwidth", func(c *Config) { c.Groups[0].Bandwidth.Windows[1].Limit = 1 }, true},
		{"groups.sounz.journal", func(c *Config) { c.Groups[0].Journal.Limit = 1 }, true},
		{"groups.sounz.history", func(c *Config) { c.Groups[0].History.Every[0].Until = 1 }, true},
		{"groups.sounz.guard", func(c *Config) { c.Groups[0].Guard.Changed = 1 }, true},
		{"groups.sounz.rescan", func(c *Config) { c.Groups[0].Rescan.Every = 1 }, true},
	} {
		after := load()
		c.change(after)
		want := Changes{Restart: []string{c.key}}
		if c.live {
			want = Changes{Live: []string{c.key}}
		}
		if found := Diff(load(), after); !reflect.DeepEqual(found, want) {
			t.Errorf("%s: found %+v, want %+v", c.key, found, want)
		}
	}
	other := load()
	other.Groups[0], other.Groups[1] = other.Groups[1], other.Groups[0]
	if c := Diff(load(), other); !c.None() {
		t.Errorf("groups in another order: found %+v", c)
	}
}

// A field that Diff doesn't compare would be reloaded in silence, or not at all.
func TestDiffKnowsEveryField(t *testing.T) {
	for _, c := range []struct {
		of   any
		want int // fields that Diff and its parts name
	}{
		{Config{}, 12 /* and where it stands */}, {Live{}, 5}, {Group{}, 4}, {GroupLive{}, 6}, {Tree{}, 6},
	} {
		if n := reflect.TypeOf(c.of).NumField(); n != c.want {
			t.Errorf("%T has %d fields, Diff knows %d: teach it, TestDiff and this table", c.of, n, c.want)
		}
	}
}
