package replctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"repld/cmd/internal/cli"
	"repld/control"
	"repld/control/view"
)

func (a *app) statusCommand() *cobra.Command {
	var watch bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "show role, link, lag, seed progress and health", Args: cli.Args(),
		Long: `status shows what the node is, whether its peer can be reached, how far the standby is behind,
how far a seed has come, and what is wrong.

With --watch it goes on until it is interrupted: on a terminal the table is drawn anew, elsewhere each
look is one line, or one JSON document with --json. A daemon that goes away and comes back is waited for.`,
	}
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if every <= 0 {
			return control.Errorf(control.ExitUsage, "--interval is %s: want more than nothing", every)
		}
		return nil
	}
	cmd.RunE = a.run(func(ctx context.Context, c *control.Client) error {
		if watch {
			return a.watch(ctx, c, every)
		}
		s, err := a.status(ctx, c)
		if err != nil {
			return err
		}
		return a.print(s, func(w io.Writer) error { return view.Status(w, s, time.Now(), newMeters().line(time.Now())) })
	})
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until interrupted")
	cli.Duration(cmd, &every, "interval", time.Second, "time between two looks with --watch")
	return cmd
}

// status asks for the status, of the one group if one was named.
func (a *app) status(ctx context.Context, c *control.Client) (*control.Status, error) {
	s, err := c.Status(ctx)
	if err != nil || a.group == "" {
		return s, err
	}
	var names []string
	for _, g := range s.Groups {
		if g.Name == a.group {
			s.Groups = []control.Group{g}
			return s, nil
		}
		names = append(names, g.Name)
	}
	return nil, control.Errorf(control.ExitUsage, "no group %q on this node", a.group).WithHint("groups: %s", strings.Join(names, ", "))
}

func (a *app) watch(ctx context.Context, c *control.Client, every time.Duration) error {
	_, tty := terminal(a.stdout)
	seen := newMeters()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		s, err := a.status(ctx, c)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (first || control.ExitOf(err) != control.ExitNoDaemon):
			return err
		case err != nil:
			err = a.show(tty, func(w io.Writer) error { _, err := fmt.Fprintf(w, "%v; waiting for it\n", err); return err })
		case a.json:
			err = a.writeJSON(s)
		case tty:
			err = a.show(tty, func(w io.Writer) error { return view.Status(w, s, time.Now(), seen.line(time.Now())) })
		default:
			err = writeLines(a.stdout, s, seen)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// show writes one look. On a terminal it replaces the one before, in a single
// write, so that nothing flickers. With --json what is no document goes to
// standard error.
func (a *app) show(tty bool, write func(io.Writer) error) error {
	switch {
	case a.json:
		return write(a.stderr)
	case !tty:
		return write(a.stdout)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	const home, eraseLine, eraseBelow = "\x1b[H", "\x1b[K\n", "\x1b[J" // ECMA-48: CUP, EL, ED
	_, err := io.WriteString(a.stdout, home+strings.ReplaceAll(b.String(), "\n", eraseLine)+eraseBelow)
	return err
}

// writeLines writes one line for each group.
func writeLines(w io.Writer, s *control.Status, seen meters) error {
	now := time.Now()
	for i := range s.Groups {
		g := &s.Groups[i]
		text := fmt.Sprintf("%s %s %s", now.UTC().Format(time.RFC3339), g.Name, g.Phase)
		if g.Phase == control.PhaseSeeding && g.Seed != nil {
			text += "  " + seen.line(now)(g)
		}
		if b := g.Barriers.Applied; b != nil {
			text += "  applied " + b.ID.String()
		}
		if g.Lag != nil && g.Lag.Seconds != nil {
			text += "  lag " + view.Duration(g.Lag.Seconds.Duration())
		}
		for _, c := range s.Health {
			text += fmt.Sprintf("  %s %s", c.Severity, c.Code)
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// meters are the seed meters of the groups by name.
type meters map[string]*view.SeedMeter

func newMeters() meters { return make(meters) }

func (m meters) line(now time.Time) func(*control.Group) string {
	return func(g *control.Group) string {
		if m[g.Name] == nil {
			m[g.Name] = new(view.SeedMeter)
		}
		return m[g.Name].Line(g.Seed, now)
	}
}
