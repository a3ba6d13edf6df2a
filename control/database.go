package control

import (
	"context"
	"net/http"
)

// EventDatabase says that a database's server was started, stopped, promoted or made a
// replica in a change of roles.
const EventDatabase EventType = "database"

// Database is a database of a group, as its standby knows it.
type Database struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	Engine string `json:"engine"`
	// Gate is how far the replica may go, Received what is durable here, Replayed how
	// far the replica is, in the engine's own words; absent where unknown.
	Gate       string `json:"gate,omitempty"`
	Received   string `json:"received,omitempty"`
	Replayed   string `json:"replayed,omitempty"`
	Connected  bool   `json:"connected"` // the replica reads its stream here
	SpoolBytes uint64 `json:"spool_bytes"`
}

// DatabaseRequest asks about databases.
type DatabaseRequest struct {
	Group string `json:"group,omitempty"` // "" = of every group
	Name  string `json:"name,omitempty"`  // of one database; "" = of all
}

// DatabaseList are databases of a node.
type DatabaseList struct {
	Databases []Database `json:"databases"`
}

// DatabaseSeedReply says what was made.
type DatabaseSeedReply struct {
	Group   string  `json:"group"`
	Name    string  `json:"name"`
	DataDir string  `json:"data_dir"` // "" = the server gets its data through the gate
	Bytes   uint64  `json:"bytes"`    // of the base backup
	Took    Seconds `json:"took_seconds"`
	Started bool    `json:"started"` // the configured command has started it
}

// DatabaseBackend is the part of [Backend] about databases.
type DatabaseBackend interface {
	// Databases lists the databases of a standby.
	Databases(ctx context.Context, req DatabaseRequest) (*DatabaseList, error)
	// SeedDatabase makes a replica from nothing. It ends with ctx.
	SeedDatabase(ctx context.Context, req DatabaseRequest) (*DatabaseSeedReply, error)
}

func (s *Server) handleDatabases(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/databases", answer(direct(s.backend.Databases)))
	mux.HandleFunc("POST /v1/database/seed", answer(direct(s.backend.SeedDatabase)))
}

// Databases is [DatabaseBackend.Databases].
func (c *Client) Databases(ctx context.Context, req DatabaseRequest) (*DatabaseList, error) {
	return call[DatabaseList](ctx, c, c.patience, http.MethodPost, "/v1/databases", req)
}

// SeedDatabase is [DatabaseBackend.SeedDatabase]. It waits until the replica is made.
func (c *Client) SeedDatabase(ctx context.Context, req DatabaseRequest) (*DatabaseSeedReply, error) {
	return call[DatabaseSeedReply](ctx, c, 0, http.MethodPost, "/v1/database/seed", req)
}
