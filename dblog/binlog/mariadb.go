package binlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// mariadbDialect is that of MariaDB, from 10.5 on.
type mariadbDialect struct{}

func (mariadbDialect) parse(text string) (history, error) {
	st, err := parseState(text)
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (mariadbDialect) wrote(version string) error {
	if !strings.Contains(version, "MariaDB") {
		return fmt.Errorf("the binary log was written by %q, want MariaDB", version)
	}
	return nil
}

func (mariadbDialect) lists(kind byte) bool  { return kind == eventGTIDList }
func (mariadbDialect) groups(kind byte) bool { return kind == eventGTID }

func (mariadbDialect) parseList(body []byte) (history, error) {
	st, err := parseGTIDList(body)
	if err != nil {
		return nil, err
	}
	return st, nil
}

// stateFile has the transactions that the logs of a server end with: it writes the file
// at the end of a clean shutdown, and removes it when it starts
// (MYSQL_BIN_LOG::write_state_to_file).
func (l logFiles) stateFile() string { return string(l) + ".state" }

// clean is part of [logWords].
func (mariadbDialect) clean(l logFiles) (bool, error) {
	_, err := os.Stat(l.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// last is part of [logWords].
func (d mariadbDialect) last(l logFiles, _ history) (history, error) {
	text, err := os.ReadFile(l.stateFile())
	if err != nil {
		return nil, err
	}
	return d.parse(strings.Join(strings.Fields(string(text)), ","))
}
