package binlog

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"sync/atomic"

	"repld/change"
)

// Kind is which server it is: a word of package change.
type Kind string

// The servers that this package knows.
const (
	MariaDB Kind = change.EngineMariaDB
	MySQL   Kind = change.EngineMySQL
)

// dialect is what differs between the kinds of servers.
type dialect interface {
	grammar
	primaryWords
	replicaWords
	gateWords
	logWords
	seedWords
}

// grammar is how a binary log says which transactions it has.
type grammar interface {
	// parse reads a list of transactions, as the server writes it.
	parse(text string) (history, error)
	// wrote returns why a file that a version wrote can't be read; nil if it can.
	wrote(version string) error
	// lists reports whether an event says what comes before its file, which parseList reads.
	lists(kind byte) bool
	parseList(body []byte) (history, error)
	// groups reports whether an event begins a group.
	groups(kind byte) bool
	// take has a walk take the next event.
	take(w *walk, c *cursor, e event) error
}

// primaryWords is what a primary is asked.
type primaryWords interface {
	// identify finds out who is at the other end, and refuses what isn't known.
	identify(ctx context.Context, c driver.Conn) (server, error)
	// unsuitable says all that keeps a server from being a primary, nil if nothing does.
	unsuitable(s server) error
	// status returns the row that says where the binary log ends.
	status(ctx context.Context, c driver.Conn) ([]row, error)
	// synced makes the binary log durable up to where it ended when its status was read.
	synced(logs logFiles, at change.StreamPosition) error
	// streamSetup are the statements that say what the stream shall be.
	streamSetup() []string
	// dumpFlags are those of the request for the stream.
	dumpFlags() uint16
}

// replicaWords is what a replica is asked and told.
type replicaWords interface {
	look(ctx context.Context, c driver.Conn) (replicaState, error)
	// judge says what is wrong with a replica that reads from the gate, beside what is
	// wrong with any; nil if nothing is.
	judge(st replicaState, gate place) error
	// stood reports whether a server that is no replica any more was at the gate when it
	// became that; it may have written since.
	stood(st replicaState, gate place) bool
	// protect returns the statements that keep others from writing to it, none if it is so.
	protect(st replicaState) []string
	// point returns the statements that make a server a replica.
	point(st replicaState, begin gateState, floor history, a access) []string
	// resume starts the thread that reads from the gate.
	resume() string
	// stop and forget end the replication, one after the other; renew begins a binary log,
	// and release lets others write.
	stop() string
	forget() string
	renew() string
	release() []string
	// wait returns the statement that waits for transactions, up to some seconds, and whose
	// result is 0 when they are there.
	wait(h history, seconds int) string
}

// gateWords is how the gate shows itself to a replica.
type gateWords interface {
	greeting(version string) string
	// plugin is how the replica proves that it knows the password, and proof what it then
	// answers to a challenge.
	plugin() string
	proof(password string, challenge []byte) []byte
	// admit tells who has given that proof that it was taken.
	admit(s *session) error
	// settings are those of the primary that a replica asks for.
	settings(about info, a access) map[string]string
	// requested returns the transactions that a replica has which asks for the stream by a
	// command, with its arguments; ok is false for other commands.
	requested(s *session, command byte, b []byte) (have history, ok bool, err error)
}

// logWords reads the binary logs of a server that doesn't run.
type logWords interface {
	// clean reports whether they belong to a server that was shut down cleanly.
	clean(l logFiles) (bool, error)
	// last returns the transactions that they end with; base are those that the server has
	// and no log of it ever had.
	last(l logFiles, base history) (history, error)
}

// seedWords makes a replica.
type seedWords interface {
	// programs are those that a seed needs, on both sides.
	programs() []string
	// seedable says what keeps a server from being copied, beside programs.
	seedable(ctx context.Context, c driver.Conn, cloneDir string) error
	backup(ctx context.Context, s *Source, w io.Writer) (Backup, error)
	restore(ctx context.Context, r io.Reader, o RestoreOptions) (Backup, error)
}

func dialectOf(k Kind) (dialect, error) {
	switch k {
	case MariaDB:
		return mariadbDialect{}, nil
	case MySQL:
		return mysqlDialect{new(atomic.Bool)}, nil
	}
	return nil, fmt.Errorf("the kind of server is %q, want %s or %s", string(k), MariaDB, MySQL)
}

// history is a set of transactions: those before a place in a stream.
type history interface {
	// String lists them as the server does.
	String() string
	empty() bool
	// within reports whether another one has them all.
	within(other history) bool
	equal(other history) bool
	has(t transaction) bool
	// with returns those with one more, and joined those with others.
	with(t transaction) history
	joined(other history) history
	// lacking returns what another one hasn't.
	lacking(other history) history
}

// transaction names one.
type transaction interface{ String() string }
