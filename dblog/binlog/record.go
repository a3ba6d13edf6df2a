package binlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"repld/durable"
)

// record is what is remembered of this node's server, whichever side it is on. It is
// kept in the file "server" (JSON).
type record struct {
	// LogBin is the path of the binary logs, without their numbers.
	LogBin string `json:"log_bin,omitempty"`
	// Origin is the binary log with which the stream for a standby begins that has
	// nothing of it: the one in which a backup was taken, or the server was promoted.
	Origin string `json:"origin,omitempty"`
	// Base are the transactions that the server has and no binary log of it ever had: of
	// MySQL, whose logs don't say it.
	Base string `json:"base,omitempty"`
	// Promoted is the gate's position at which the server was promoted and Origin begun.
	Promoted string `json:"promoted,omitempty"`
}

func loadRecord(dir string) (record, error) {
	var r record
	if dir == "" {
		return r, nil
	}
	path := filepath.Join(dir, "server")
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func (r record) save(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "server"), b, 0o600)
}
