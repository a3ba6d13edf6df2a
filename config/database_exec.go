package config

import (
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Exec are the commands that hold a service which has no engine of its own; package
// dblog/exec says what each must do.
type Exec struct {
	Position, Hold, Advance, Promote []string
	Rejoin, Health                   []string // none: nothing is run
	// Timeout bounds each command but position and health.
	Timeout time.Duration
}

// DefaultExecTimeout is that of [Exec].
const DefaultExecTimeout = 5 * time.Minute

var execLevel = &level{"exec", []string{"position", "hold", "advance", "promote", "rejoin", "health", "timeout", "start", "stop", "spool_limit"}}

func (r *reader) exec(n ast.Node, group string, d *Database) {
	d.Server, d.Exec = Server{SpoolSize: DefaultSpoolSize}, Exec{Timeout: DefaultExecTimeout}
	f, ok := r.block(n, execLevel, group, d)
	if !ok {
		return
	}
	for _, c := range []struct {
		key  string
		into *[]string
	}{
		{"position", &d.Exec.Position}, {"hold", &d.Exec.Hold}, {"advance", &d.Exec.Advance}, {"promote", &d.Exec.Promote},
	} {
		if v, ok := r.need(f, c.key, "exec", "a command"); ok {
			*c.into = r.command(v)
		}
	}
	for key, into := range map[string]*[]string{"rejoin": &d.Exec.Rejoin, "health": &d.Exec.Health, "start": &d.Start, "stop": &d.Stop} {
		if v, ok := f.get(key); ok {
			*into = r.command(v)
		}
	}
	maybe(r, f, "timeout", &d.Exec.Timeout, ParseDuration)
	maybe(r, f, "spool_limit", &d.SpoolSize, ParseSize)
}
