package config

import (
	"reflect"
	"testing"
	"time"
)

// TestCommandsAndCaches: what the blocks say, and what they leave out.
func TestCommandsAndCaches(t *testing.T) {
	c, err := Parse("f", []byte(`designated: primary
groups:
  - name: g
    trees: [{name: a, path: /srv/a}]
    databases:
      - {name: a, exec: {position: [/bin/p, now], hold: [/bin/h], advance: [/bin/a], promote: [/bin/q]}}
      - name: b
        exec:
          position: [/bin/p]
          hold: [/bin/h]
          advance: [/bin/a]
          promote: [/bin/q]
          rejoin: [/bin/r]
          health: [/bin/i]
          start: [/bin/on]
          stop: [/bin/off]
          timeout: 90s
          spool_limit: 1MiB
      - {name: c, redis: {mode: cache, dsn: "unix:///run/redis.sock", start: [/bin/on]}}
      - {name: d, redis: {mode: cache, dsn_file: /etc/d}}
      - {name: e, redis: {mode: gate, dsn_file: /etc/e}}
      - {name: f, redis: {mode: gate, dsn: "redis://127.0.0.1", gate_port: 7000, spool_limit: 2MiB, start: [/bin/on], stop: [/bin/off]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	least := Exec{Position: []string{"/bin/p", "now"}, Hold: []string{"/bin/h"}, Advance: []string{"/bin/a"}, Promote: []string{"/bin/q"}, Timeout: 5 * time.Minute}
	full := Exec{Position: []string{"/bin/p"}, Hold: []string{"/bin/h"}, Advance: []string{"/bin/a"}, Promote: []string{"/bin/q"},
		Rejoin: []string{"/bin/r"}, Health: []string{"/bin/i"}, Timeout: 90 * time.Second}
	want := []Database{
		{Name: "a", Engine: "exec", Server: Server{SpoolSize: DefaultSpoolSize}, Exec: least},
		{Name: "b", Engine: "exec", Server: Server{SpoolSize: 1 << 20, Start: []string{"/bin/on"}, Stop: []string{"/bin/off"}}, Exec: full},
		{Name: "c", Engine: "redis", Server: Server{DSN: "unix:///run/redis.sock", Start: []string{"/bin/on"}}, Redis: Redis{Mode: RedisCache}},
		{Name: "d", Engine: "redis", Server: Server{DSNFile: "/etc/d"}, Redis: Redis{Mode: RedisCache}},
		{Name: "e", Engine: "redis", Server: Server{DSNFile: "/etc/e", SpoolSize: DefaultSpoolSize}, Redis: Redis{Mode: RedisGate}},
		{Name: "f", Engine: "redis", Server: Server{DSN: "redis://127.0.0.1", SpoolSize: 2 << 20, Start: []string{"/bin/on"}, Stop: []string{"/bin/off"}},
			Redis: Redis{Mode: RedisGate, GatePort: 7000}},
	}
	if got := c.Groups[0].Databases; !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v\nwant %+v", got, want)
	}
}
