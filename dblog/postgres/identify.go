package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"repld/dblog"
)

// identifySystem asks a replication connection for the server's timelines.
func identifySystem(ctx context.Context, c *pgconn.PgConn) (lineage, info, error) {
	var line lineage
	var about info
	row, err := command(ctx, c, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return line, about, err
	}
	timeline, err := strconv.ParseUint(row[1], 10, 32)
	if err != nil {
		return line, about, fmt.Errorf("the server's timeline: %w", err)
	}
	line.timeline = uint32(timeline)
	about.System = row[0]
	if row, err = command(ctx, c, "SHOW wal_segment_size", 1); err != nil {
		return line, about, err
	}
	if about.SegmentSize, err = parseSize(row[0]); err != nil {
		return line, about, err
	}
	if row, err = command(ctx, c, "SHOW server_version_num", 1); err != nil {
		return line, about, err
	}
	if about.Version, err = strconv.Atoi(row[0]); err != nil {
		return line, about, err
	}
	if timeline > 1 {
		if row, err = command(ctx, c, fmt.Sprintf("TIMELINE_HISTORY %d", timeline), 2); err != nil {
			return line, about, err
		}
		about.History = row[1]
		if line.forks, err = parseHistory(row[1]); err != nil {
			return line, about, err
		}
	}
	return line, about, nil
}

// parseSize reads a size as SHOW prints it.
func parseSize(s string) (uint64, error) {
	for unit, factor := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if n, ok := cutSuffix(s, unit); ok {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("size %q: want a number with kB, MB or GB", s)
}

func cutSuffix(s, unit string) (uint64, bool) {
	if len(s) <= len(unit) || s[len(s)-len(unit):] != unit {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:len(s)-len(unit)], 10, 32)
	return n, err == nil
}

// command runs a replication command that answers with one row.
func command(ctx context.Context, c *pgconn.PgConn, sql string, columns int) ([]string, error) {
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("the server gave no answer to %s", sql)
	}
	return one(texts(results[0].Rows), columns)
}

// readSlot returns from where on the slot keeps WAL.
func readSlot(ctx context.Context, c *pgconn.PgConn, name string) (LSN, error) {
	row, err := command(ctx, c, fmt.Sprintf("READ_REPLICATION_SLOT %s", name), 3)
	if err != nil {
		return 0, err
	}
	switch {
	case row[0] == "":
		return 0, fmt.Errorf("%w: the server has no replication slot %q any more", dblog.ErrNeedsSeed, name)
	case row[0] != "physical":
		return 0, setupError{fmt.Sprintf("replication slot %q is %s, want a physical one", name, row[0])}
	case row[1] == "":
		return 0, fmt.Errorf("%w: replication slot %q keeps nothing: it was never used, or invalidated", dblog.ErrNeedsSeed, name)
	}
	return ParseLSN(row[1])
}
