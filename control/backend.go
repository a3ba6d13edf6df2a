package control

import (
	"context"
	"time"
)

// Backend is what a [Server] asks; package daemon implements it. Every method
// may be called from several goroutines at once and returns when ctx ends. An
// error that is an [Error] reaches the client as it is; any other becomes one by
// [AsError]. The groups named in requests exist, and "" was replaced by the only
// one where there is only one; the server sees to both.
type Backend interface {
	HistoryBackend
	DatabaseBackend
	RoleBackend
	MaintenanceBackend
	// Status never waits for the peer.
	Status(ctx context.Context) (*Status, error)
	// Barrier proves a drain, cuts a barrier if anything changed, and returns once
	// the barrier that holds everything done before the call has come to
	// req.Wait. The server has put req.Timeout into ctx already.
	Barrier(ctx context.Context, req BarrierRequest) (*BarrierReply, error)
	// Barriers lists what this node holds, newest first.
	Barriers(ctx context.Context, req BarriersRequest) (*BarrierList, error)
	// Verify re-reads both trees and compares them. Trees that differ are a report,
	// not an error. It calls progress from one goroutine at a time.
	Verify(ctx context.Context, req VerifyRequest, progress func(VerifyProgress)) (*VerifyReport, error)
	// Pause stops applying; the log still arrives.
	Pause(ctx context.Context, req ApplyRequest) error
	// Resume is the opposite. Without req.Accept a group that a guard halted is an
	// error with [ExitRefused].
	Resume(ctx context.Context, req ApplyRequest) error
	// Events calls each for the events of the last req.Since, oldest first, and,
	// if req.Follow, for those to come until ctx ends. It returns each's error.
	Events(ctx context.Context, req EventsRequest, each func(Event) error) error
	// Invite makes a join token. A node that is paired needs req.Replace.
	Invite(ctx context.Context, req InviteRequest) (*InviteReply, error)
	// Join redeems a token, and returns when both nodes know each other's key.
	Join(ctx context.Context, req JoinRequest) (*JoinReply, error)
}

// EventsRequest asks for the log of events.
type EventsRequest struct {
	Group  string        // "" = all, and those of the node itself
	Since  time.Duration // how far back; 0 = all that is kept, unless Follow: then none
	Follow bool
}
