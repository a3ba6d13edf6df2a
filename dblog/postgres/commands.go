package postgres

import (
	"os"
	"path/filepath"
	"strings"
)

// Commands returns what starts the server of a data directory, and what shuts it down
// cleanly and waits for that; both are for the server's user. With Debian's layout,
// /var/lib/postgresql/VERSION/CLUSTER, that is Debian's pg_ctlcluster, since the
// configuration stands elsewhere; else pg_ctl of the directory's version. They are nil if
// the program isn't found, or there is no data directory.
func Commands(dataDir string) (start, stop []string) {
	b, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if err != nil {
		return nil, nil
	}
	version := strings.TrimSpace(string(b))
	cluster := filepath.Base(dataDir)
	if filepath.Dir(dataDir) == filepath.Join("/var/lib/postgresql", version) {
		ctl := "/usr/bin/pg_ctlcluster"
		_, err1 := os.Stat(ctl)
		_, err2 := os.Stat(filepath.Join("/etc/postgresql", version, cluster, "postgresql.conf"))
		if err1 == nil && err2 == nil {
			return []string{ctl, "--skip-systemctl-redirect", version, cluster, "start"},
				[]string{ctl, "--skip-systemctl-redirect", "-m", "fast", version, cluster, "stop"}
		}
	}
	for _, dir := range []string{filepath.Join("/usr/lib/postgresql", version, "bin"), "/usr/pgsql-" + version + "/bin", "/usr/local/pgsql/bin"} {
		ctl := filepath.Join(dir, "pg_ctl")
		if _, err := os.Stat(ctl); err != nil {
			continue
		}
		// A server writes to where pg_ctl does until its own log is configured.
		return []string{ctl, "-D", dataDir, "-l", filepath.Join(dataDir, "startup.log"), "-W", "start"},
			[]string{ctl, "-D", dataDir, "-m", "fast", "-w", "stop"}
	}
	return nil, nil
}
