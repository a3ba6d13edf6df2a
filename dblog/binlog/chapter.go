package binlog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"repld/change"
	"repld/dblog/spool"
)

// info is what a chapter of the spool, a binary log file, begins with. It stands in
// the chapter too, but a spool lets go of its beginnings.
type info struct {
	Name   string `json:"name"`   // of the file
	Format []byte `json:"format"` // the format description, with its header
	List   string `json:"list"`   // the state before the file's first transaction

	format format
	state  history
}

func parseInfo(d dialect, b []byte) (info, error) {
	var about info
	if err := json.Unmarshal(b, &about); err != nil {
		return about, fmt.Errorf("%w: what a binary log file begins with: %w", spool.ErrDamaged, err)
	}
	var err error
	if about.format, err = parseFormat(about.Format); err != nil {
		return about, fmt.Errorf("%w: %w", spool.ErrDamaged, err)
	}
	about.state, err = d.parse(about.List)
	return about, err
}

// fileNumber returns the number of a binary log file: it is the chapter.
func fileNumber(name string) (uint32, error) {
	_, digits, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ".")
	if i := strings.LastIndexByte(digits, '.'); i >= 0 {
		digits = digits[i+1:]
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no name of a binary log file, want NAME.NUMBER", name)
	}
	return uint32(n), nil
}

func show(p change.StreamPosition) string {
	return change.DatabasePosition{Engine: change.EngineMariaDB, Position: p}.String()
}
