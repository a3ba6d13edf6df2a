package redis

import (
	"fmt"
	"strconv"
	"strings"
)

// info is what a server says of itself, by the names of INFO.
type info map[string]string

// ask reads sections of INFO, in one round trip.
func ask(c *connection, sections ...string) (info, error) {
	var b []byte
	for _, s := range sections { // several in one command are of Redis 7
		b = append(b, request("INFO", s)...)
	}
	if _, err := c.Write(b); err != nil {
		c.broken = true
		return nil, err
	}
	is := info{}
	for range sections {
		list, err := c.answer("INFO")
		if err != nil {
			c.broken = true
			return nil, err
		}
		for line := range strings.Lines(list[len(list)-1]) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				is[name] = value
			}
		}
	}
	return is, nil
}

// number returns a value that must be a number.
func (i info) number(name string) (int64, error) {
	n, err := strconv.ParseInt(i[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("it says %s %q in INFO, want a number", name, i[name])
	}
	return n, nil
}

// next returns the number of the byte that comes next in the server's stream.
func (i info) next(name string) (uint64, error) {
	n, err := i.number(name)
	if err == nil && n < 0 {
		err = fmt.Errorf("it says %s %d in INFO, want 0 or more", name, n)
	}
	return uint64(n) + 1, err
}

// replica reports whether the server is one.
func (i info) replica() bool { return i["role"] == "slave" }

// keys counts those of all databases.
func (i info) keys() (n int64) {
	for name, value := range i {
		if rest, ok := strings.CutPrefix(value, "keys="); ok && strings.HasPrefix(name, "db") {
			count, _, _ := strings.Cut(rest, ",")
			k, err := strconv.ParseInt(count, 10, 64)
			if err == nil {
				n += k
			}
		}
	}
	return n
}

// leastVersion is the first whose shutdown waits for replicas, and which sends an RDB
// file without the stream behind it.
const leastVersion = 7

// unsuitable says why a server, of the section "server" and "cluster", can't be
// replicated or be a replica.
func (i info) unsuitable() error {
	major, _, _ := strings.Cut(i["redis_version"], ".")
	if n, err := strconv.Atoi(major); err != nil || n < leastVersion {
		return setupError{fmt.Sprintf("the server is Redis %s, want %d.0 or later", i["redis_version"], leastVersion)}
	}
	if i["cluster_enabled"] == "1" {
		return setupError{"the server is a node of a Redis Cluster, which is not supported: want one with cluster-enabled no"}
	}
	return nil
}

// unsuitablePrimary says why a server can't be replicated, of the section
// "replication" too.
func (i info) unsuitablePrimary() error {
	if err := i.unsuitable(); err != nil {
		return err
	}
	return i.asPrimary()
}

// asPrimary says that a server is a replica.
func (i info) asPrimary() error {
	if i.replica() {
		return setupError{fmt.Sprintf("the server is a replica itself, of %s port %s, want REPLICAOF NO ONE", i["master_host"], i["master_port"])}
	}
	return nil
}
