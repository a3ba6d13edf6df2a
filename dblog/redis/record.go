package redis

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
	// Chapter stands for the replication id ID.
	Chapter uint32 `json:"chapter"`
	ID      string `json:"id"`
	// Origin is the byte with which the stream for a standby begins that has nothing of it, behind
	// the backup.
	Origin uint64 `json:"origin,omitempty"`
	Made   bool   `json:"made,omitempty"` // there was a backup
	// Before is the replication id of the chapter before, if the server goes on with its
	// stream, from the byte Fork on: it was shut down cleanly and has loaded its RDB file.
	Before string `json:"before,omitempty"`
	Fork   uint64 `json:"fork,omitempty"`
}

// of returns the record of a server with the replication id that it says: another
// chapter, if it is another one. It wants the section "replication".
func (r record) of(is info) record {
	id := is["master_replid"]
	if r.ID == id {
		return r
	}
	now := record{Chapter: r.Chapter + 1, ID: id}
	if fork, err := is.number("second_repl_offset"); err == nil && fork > 0 && r.ID != "" && is["master_replid2"] == r.ID {
		now.Before, now.Fork = r.ID, uint64(fork)
	}
	return now
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
