package redis

import (
	"context"
	"fmt"
	"strings"
)

// compared are the fields of INFO that should be the same on both nodes, by what a
// configuration calls them.
var compared = map[string]string{
	"redis_version": "version", "valkey_version": "version of valkey", "redis_mode": "mode", "maxmemory": "maxmemory", "maxmemory_policy": "maxmemory-policy",
	"aof_enabled": "appendonly", "mem_allocator": "allocator",
}

// Settings asks the server at a DSN, once, for what should be the same on both nodes;
// further settings are asked for by CONFIG GET, and left out where that isn't allowed or
// there is none.
func Settings(ctx context.Context, dsn string, further []string) (map[string]string, error) {
	at, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("redis at %s: %w", at.at, err)
	}
	defer conn.Close()
	info, err := conn.do("INFO")
	if err != nil {
		return nil, fmt.Errorf("redis at %s: %w", at.at, err)
	}
	found := map[string]string{}
	for line := range strings.Lines(info) {
		field, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if name := compared[field]; ok && name != "" {
			found[name] = value
		}
	}
	for _, name := range further {
		// An answer is a name with its value, or nothing.
		if value, err := conn.do("CONFIG", "GET", name); err == nil && value != "" {
			found[strings.ToLower(name)] = value
		}
	}
	return found, nil
}
