package preflight

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// alerts checks programs and files of alerts.
func (k *check) alerts() {
	for i, a := range k.config.Alerts {
		key := fmt.Sprintf("alerts.%d.", i)
		if len(a.Exec) > 0 {
			if err := executable(a.Exec[0]); err != nil {
				k.wrong(key+"exec", "", "the program %s of an alert: %s", a.Exec[0], cause(err))
			}
		}
		if a.HeadersFile != "" {
			k.headers(key+"http", a.HeadersFile)
		}
	}
}

func executable(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return errors.New("is a directory")
	case st.Mode()&0o111 == 0:
		return fmt.Errorf("found mode %04o, want it to be executable", st.Mode().Perm())
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// headers checks a file of "Name: value" lines.
func (k *check) headers(key, path string) {
	f, err := os.Open(path)
	if err != nil {
		k.wrong(key, k.asUser(), "the headers_file %s of an alert: %s", path, cause(err))
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.Contains(line, ":") {
			k.wrong(key, "", "the headers_file %s of an alert: line %d is not Name: value", path, n)
		}
	}
	if err := lines.Err(); err != nil {
		k.wrong(key, "", "the headers_file %s of an alert: %s", path, cause(err))
	}
}
