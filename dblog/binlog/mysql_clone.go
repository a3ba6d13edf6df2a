package binlog

import (
	"archive/tar"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func (mysqlDialect) programs() []string { return nil }

// backup has the server clone itself into a directory, and writes that to w as tar(5)
// has it. The copy is as of some instant before the statement ends, so it has nothing that
// the position read after that hasn't: that one is its end. What exactly it has, the server
// that is started on it knows itself.
func (d mysqlDialect) backup(ctx context.Context, s *Source, w io.Writer) (Backup, error) {
	var b Backup
	var err error
	if b.Start, err = s.Prepare(ctx); err != nil {
		return b, err
	}
	dir := filepath.Join(s.opts.CloneDir, "repld-clone-"+strings.ReplaceAll(s.opts.Name, "/", "-"))
	if err := os.RemoveAll(dir); err != nil { // of a seed that broke off
		return b, err
	}
	defer os.RemoveAll(dir)
	c, _, err := dial(ctx, s.config, nil) // a clone takes its time, and Confirm needs the other one
	if err != nil {
		return b, s.noted(err)
	}
	defer c.Close()
	if err := d.seedable(ctx, c, s.opts.CloneDir); err != nil {
		return b, s.noted(err)
	}
	if _, err := query(ctx, c, "CLONE LOCAL DATA DIRECTORY = "+quoted(dir)); err != nil {
		return b, fmt.Errorf("clone the server into %s: %w", dir, err)
	}
	if b.End, err = masterStatus(ctx, c, d); err != nil {
		return b, s.noted(err)
	}
	return b, pack(ctx, w, dir)
}

// quoted is a string in a statement. The backslash is no letter of its own in it unless
// sql_mode says so; a path that has one is refused by the server, which doesn't find it.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// otherEngines are the tables that a clone has without what is in them.
const otherEngines = `SELECT CONCAT(table_schema, '.', table_name) AS name, engine AS engine FROM information_schema.tables
	WHERE table_type = 'BASE TABLE' AND engine <> 'InnoDB' AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') LIMIT 1`

// seedable is part of [seedWords].
func (mysqlDialect) seedable(ctx context.Context, c driver.Conn, dir string) error {
	plugin, err := query(ctx, c, "SELECT plugin_status AS status FROM information_schema.plugins WHERE plugin_name = 'clone'")
	if err != nil {
		return err
	}
	if len(plugin) != 1 || plugin[0]["status"] != "ACTIVE" {
		return setupError{"the clone plugin isn't there, want it: INSTALL PLUGIN clone SONAME 'mysql_clone.so'"}
	}
	other, err := query(ctx, c, otherEngines)
	if err != nil {
		return err
	}
	if len(other) > 0 {
		return setupError{fmt.Sprintf("the table %s has ENGINE = %s, want InnoDB: the seed would have it empty", other[0]["name"], other[0]["engine"])}
	}
	size, err := one(ctx, c, "SELECT CAST(SUM(file_size) AS UNSIGNED) AS bytes FROM information_schema.innodb_tablespaces")
	if err != nil {
		return err
	}
	want, err := size.number("bytes")
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return setupError{fmt.Sprintf("the directory for the copy of a seed, %s: %v", dir, err)}
	}
	want += want/10 + cloneMargin
	if free := st.Bavail * uint64(st.Bsize); free < want {
		return setupError{fmt.Sprintf("there are %d MiB free in %s, want %d MiB for the copy of a seed", free>>20, dir, want>>20)}
	}
	return nil
}

// cloneMargin is room for what is logged while the server is cloned, in bytes, beside a
// tenth of the data.
const cloneMargin = 64 << 20

// pack writes what is in a directory as tar.
func pack(ctx context.Context, w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		return packed(t, e, path, name)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func packed(t *tar.Writer, e fs.DirEntry, path, name string) error {
	st, err := e.Info()
	if err != nil {
		return err
	}
	if !st.IsDir() && !st.Mode().IsRegular() {
		return fmt.Errorf("the copy of a seed has %s, want files and directories only", path)
	}
	h := &tar.Header{Name: filepath.ToSlash(name), Mode: int64(st.Mode().Perm()), ModTime: st.ModTime(), Typeflag: tar.TypeDir}
	if st.IsDir() {
		return t.WriteHeader(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(t, f)
	return err
}

// restore is part of [seedWords].
func (mysqlDialect) restore(ctx context.Context, r io.Reader, o RestoreOptions) (Backup, error) {
	root, err := os.OpenRoot(o.DataDir)
	if err != nil {
		return Backup{}, err
	}
	defer root.Close()
	t := tar.NewReader(r)
	for ctx.Err() == nil {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, r) // what pads the archive
			return Backup{}, err
		}
		if err != nil {
			return Backup{}, fmt.Errorf("unpack the seed: %w", err)
		}
		if err := unpacked(root, h, t); err != nil {
			return Backup{}, fmt.Errorf("unpack the seed: %w", err)
		}
	}
	return Backup{}, ctx.Err()
}

func unpacked(root *os.Root, h *tar.Header, r io.Reader) error {
	mode := fs.FileMode(h.Mode) & fs.ModePerm
	switch h.Typeflag {
	case tar.TypeDir:
		return root.Mkdir(filepath.FromSlash(strings.TrimSuffix(h.Name, "/")), mode|0o700)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%s has type %q, want files and directories only", h.Name, h.Typeflag)
	}
	f, err := root.OpenFile(filepath.FromSlash(h.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
