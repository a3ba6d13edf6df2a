package control

import (
	"context"
	"net/http"
)

// Maintenance is a planned outage that an operator has announced.
type Maintenance struct {
	Until Time    `json:"until"`
	Left  Seconds `json:"left_seconds"`
}

// MaintenanceRequest announces a planned outage, or ends it.
type MaintenanceRequest struct {
	For Seconds `json:"for_seconds,omitempty"` // from now on; at most a week
	End bool    `json:"end,omitempty"`         // For doesn't count
}

// MaintenanceReply is what holds now.
type MaintenanceReply struct {
	Node  string `json:"node"`
	Until Time   `json:"until,omitzero"` // absent: there is none
	// PeerError is why the peer could not be told; it will be at the next contact.
	PeerError string `json:"peer_error,omitempty"`
}

// MaintenanceBackend is the part of [Backend] about planned outages.
type MaintenanceBackend interface {
	// Maintenance announces a planned outage of either node, or its end, and tells the
	// peer. Until its end nobody is alarmed of the link or of late barriers, and neither
	// node fails over by itself.
	Maintenance(ctx context.Context, req MaintenanceRequest) (*MaintenanceReply, error)
}

// Maintenance is [MaintenanceBackend.Maintenance].
func (c *Client) Maintenance(ctx context.Context, req MaintenanceRequest) (*MaintenanceReply, error) {
	return call[MaintenanceReply](ctx, c, 2*c.patience, http.MethodPost, "/v1/maintenance", req)
}
