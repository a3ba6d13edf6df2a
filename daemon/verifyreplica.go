package daemon

import (
	"context"
	"time"

	"repld/change"
	"repld/control"
	"repld/wire"
)

// replicaWithin is how long a replica may take to be where its gate is.
const replicaWithin = 10 * time.Second

// verifyReplicas compares where the replicas are with the applied barrier. Barriers may go
// on meanwhile: it is enough to be at one of them.
func (s *receiving) verifyReplicas(ctx context.Context) []wire.Difference {
	var list []wire.Difference
	for _, r := range s.replicas {
		at := func() bool {
			c, _ := s.applier.Applied()
			return stands(r, c)
		}
		if !comesTrue(ctx, replicaWithin, at) {
			list = append(list, wire.Difference{Path: "database " + r.conf.Name, What: control.DiffersReplica})
		}
	}
	return list
}

// stands reports whether a replica is at the position of a barrier, and may go no further.
// A barrier of before the database was there says nothing of it.
func stands(r *replica, c change.Certificate) bool {
	for _, d := range c.Databases {
		if d.Name != r.conf.Name {
			continue
		}
		at, connected := r.gate.Replayed()
		return connected && !at.Before(d.Position) && r.gate.Position() == d.Position
	}
	return true
}

// comesTrue asks until something is so, false if it isn't within a time.
func comesTrue(ctx context.Context, within time.Duration, is func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			return is()
		case <-time.After(askServer):
		}
	}
	return true
}
