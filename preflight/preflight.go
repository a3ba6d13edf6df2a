package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"repld/config"
	"repld/tree"
)

// Report is what was found.
type Report struct {
	Errors config.Errors // in the order of the file
	Notes  []string      // one line each
}

// Check looks at the machine. It blocks for as long as disks, databases
// and, with names instead of addresses, the resolver do; ctx ends the latter two.
func Check(ctx context.Context, c *config.Config) Report {
	return look(ctx, c, tree.Held())
}

func look(ctx context.Context, c *config.Config, held tree.Privileges) Report {
	k := &check{config: c, held: held}
	k.kernel()
	k.state()
	k.control()
	k.trees()
	k.nested()
	k.privileges()
	k.freezes()
	k.databases(ctx)
	k.addresses(ctx)
	k.alerts()
	k.coordination()
	k.parity()
	k.errors.Sort()
	return Report{Errors: k.errors, Notes: k.notes}
}

// Summary says what is configured, in one line.
func Summary(c *config.Config) string {
	trees, databases := 0, 0
	for _, g := range c.Groups {
		trees += len(g.Trees)
		databases += len(g.Databases)
	}
	text := fmt.Sprintf("%s node, %s, %s", c.Designated, count(len(c.Groups), "group"), count(trees, "tree"))
	if databases > 0 {
		text += ", " + count(databases, "database")
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// check is one run.
type check struct {
	config *config.Config
	held   tree.Privileges
	errors config.Errors
	notes  []string
	places []place
}

// wrong notes an error about a key of the configuration.
func (k *check) wrong(key, hint, format string, args ...any) {
	k.errors = append(k.errors, k.config.Wrong(key, hint, format, args...))
}

// failed notes an error of the system or of package tree, with its hint.
func (k *check) failed(key, what string, err error) {
	var e *tree.Error
	if !errors.As(err, &e) {
		k.wrong(key, "", "%s: %v", what, cause(err))
		return
	}
	text := cause(e.Err)
	if e.Path != "" && !strings.Contains(what, e.Path) {
		text = e.Path + ": " + text
	}
	k.wrong(key, e.Hint, "%s: %s", what, text)
}

// cause drops the operation and the path that are said already.
func cause(err error) string {
	if errors.Is(err, tree.ErrNotDirectory) {
		return tree.ErrNotDirectory.Error()
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

func (k *check) note(format string, args ...any) {
	k.notes = append(k.notes, fmt.Sprintf(format, args...))
}

func (k *check) kernel() {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		k.note("kernel %s", unix.ByteSliceToString(u.Release[:]))
	}
}
