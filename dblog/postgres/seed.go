package postgres

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// RestoreOptions say how a base backup becomes a replica.
type RestoreOptions struct {
	DataDir string // empty or not there; its parent must exist
	// UID and GID own what is written; -1 leaves it ours.
	UID, GID int
	// Conninfo is the replica's primary_conninfo, see [Gate.Conninfo].
	Conninfo string
	// Passfile is the content of a password file that Conninfo refers to; empty: none.
	Passfile string
}

// passfileName is where a replica keeps the password of the gate, in its data directory.
const passfileName = "repld.pgpass"

// Conninfo returns the primary_conninfo of a replica with that data directory, and the
// content of the password file that goes with it.
func (g *Gate) Conninfo(dataDir string) (conninfo, passfile string) {
	if a := g.Addr(); a != nil {
		host, port, _ := strings.Cut(a.String(), ":")
		if i := strings.LastIndex(a.String(), ":"); i >= 0 {
			host, port = strings.Trim(a.String()[:i], "[]"), a.String()[i+1:]
		}
		escaped := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
		return fmt.Sprintf("host=%s port=%s user=repld application_name=repld sslmode=disable gssencmode=disable passfile=%s",
				host, port, quoteConninfo(filepath.Join(dataDir, passfileName))),
			fmt.Sprintf("*:*:*:repld:%s\n", escaped.Replace(g.opts.Password))
	}
	return fmt.Sprintf("host=%s port=%d user=repld application_name=repld", quoteConninfo(g.opts.SocketDir), g.opts.Port), ""
}

// quoteConninfo quotes a value of a connection string.
func quoteConninfo(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// quoteSetting quotes a value in a configuration file.
func quoteSetting(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Restore makes a data directory out of the archive of [Source.BaseBackup], and a
// replica of it that gets its WAL through the gate. Started, the server waits there
// until the gate opens. On an error the directory is left as far as it came.
func Restore(r io.Reader, o RestoreOptions) error {
	if err := os.Mkdir(o.DataDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	root, err := os.OpenRoot(o.DataDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := checkEmpty(root); err != nil {
		return err
	}
	x := extraction{root: root, o: o}
	if err := x.extract(tar.NewReader(r)); err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	if err := x.configure(); err != nil {
		return fmt.Errorf("configure the replica: %w", err)
	}
	if err := root.Chmod(".", 0o700); err != nil {
		return err
	}
	if o.UID >= 0 {
		if err := root.Chown(".", o.UID, o.GID); err != nil {
			return err
		}
	}
	return x.sync()
}

// sync makes durable what was written.
func (x *extraction) sync() error {
	d, err := x.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

func checkEmpty(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if len(names) > 0 {
		return fmt.Errorf("the data directory %s has %q in it, want it empty: move what is there away", root.Name(), names[0])
	}
	if err == io.EOF {
		return nil
	}
	return err
}

type extraction struct {
	root *os.Root
	o    RestoreOptions
	seen bool // backup_label
}

func (x *extraction) extract(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, r); err != nil {
			return err
		}
	}
	if !x.seen {
		return errors.New("the archive has no backup_label: it is not whole")
	}
	return nil
}

// entry writes one entry. Names can't lead out of the directory: os.Root sees to that.
func (x *extraction) entry(h *tar.Header, r io.Reader) error {
	name := path.Clean(h.Name)
	if name == "." {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return x.own(name)
	case tar.TypeReg:
		x.seen = x.seen || name == "backup_label"
		return x.file(name, r)
	case tar.TypeSymlink:
		if path.Dir(name) == "pg_tblspc" {
			return setupError{fmt.Sprintf("a tablespace at %s is not supported", h.Linkname)}
		}
	}
	return fmt.Errorf("%s is of type %q, want files and directories only", h.Name, h.Typeflag)
}

func (x *extraction) file(name string, r io.Reader) error {
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return x.own(name)
}

func (x *extraction) own(name string) error {
	if x.o.UID < 0 {
		return nil
	}
	return x.root.Lchown(name, x.o.UID, x.o.GID)
}

// configure appends the replica's settings to what ALTER SYSTEM writes, which wins over
// postgresql.conf wherever that lies.
func (x *extraction) configure() error {
	const auto = "postgresql.auto.conf"
	var b strings.Builder
	old, err := x.root.ReadFile(auto)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.Write(old)
	b.WriteString("\n# written by repld\n")
	for _, s := range [][2]string{
		{"primary_conninfo", x.o.Conninfo},
		{"primary_slot_name", ""},              // the gate keeps what is needed
		{"restore_command", ""},                // it would lead past the gate
		{"recovery_target_timeline", "latest"}, // of those that the gate shows
		{"hot_standby", "on"},
		{"wal_retrieve_retry_interval", "500ms"},
		{"synchronous_standby_names", ""}, // once promoted, nobody is there to wait for
	} {
		fmt.Fprintf(&b, "%s = %s\n", s[0], quoteSetting(s[1]))
	}
	files := [][2]string{{auto, b.String()}, {"standby.signal", ""}}
	if x.o.Passfile != "" {
		files = append(files, [2]string{passfileName, x.o.Passfile})
	}
	for _, f := range files {
		if err := x.file(f[0], strings.NewReader(f[1])); err != nil {
			return err
		}
	}
	return nil
}
