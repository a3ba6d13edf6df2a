package control

import (
	"context"
	"net/http"

	"repld/change"
	"repld/ready"
	"repld/role"
)

// RoleVerb is a command that changes roles.
type RoleVerb string

// The verbs.
const (
	VerbCutover  RoleVerb = "cutover"
	VerbFailover RoleVerb = "failover"
	VerbRejoin   RoleVerb = "rejoin"
	VerbFailback RoleVerb = "failback"
	VerbSwitchTo RoleVerb = "switch-to"
)

// DatabaseEnd says where a failover promotes databases.
type DatabaseEnd string

// The ends.
const (
	DatabasesBarrier DatabaseEnd = "barrier" // with the files, at the barrier
	DatabasesEnd     DatabaseEnd = "end"     // at the end of what has arrived; files may be older
)

// RoleRequest asks for a change of roles.
type RoleRequest struct {
	Verb RoleVerb `json:"verb"`
	// DryRun: nothing is done, the reply has the plan and the ledger.
	DryRun bool `json:"dry_run,omitempty"`
	// Ready: a dry run of a planned change looks, too, at what [ReadyBackend] finds in its
	// way. It takes as long as the check hooks do.
	Ready bool `json:"ready,omitempty"`

	// Of a failover.
	PeerIsDown bool                        `json:"peer_is_down,omitempty"` // an operator says so
	Databases  DatabaseEnd                 `json:"databases,omitempty"`    // "" = barrier
	Barriers   map[string]change.BarrierID `json:"barriers,omitempty"`     // groups that go back to an older barrier

	// Of a rejoin.
	DiscardDatabase bool `json:"discard_database,omitempty"` // the old database need not be kept

	// Of switch-to.
	Target role.Role `json:"target,omitempty"` // production or standby
	Mode   role.Mode `json:"mode,omitempty"`
}

// RoleProgress is a word on how far a change of roles is.
type RoleProgress struct {
	Node string    `json:"node"`
	At   Time      `json:"at"`
	Type EventType `json:"type"`
	Text string    `json:"text"`
}

// RoleReply is what came of a change of roles, or would come.
type RoleReply struct {
	Verb   RoleVerb     `json:"verb"`
	Node   string       `json:"node"`
	Role   Role         `json:"role"`
	Status NodeStatus   `json:"status"`
	Epoch  change.Epoch `json:"epoch"`
	// Nothing: what was wanted is so already.
	Nothing bool `json:"nothing,omitempty"`
	// Plan is what is done step by step, for people; of a dry run only.
	Plan string `json:"plan,omitempty"`
	// Ledger is what a failover gives up.
	Ledger *role.Ledger `json:"ledger,omitempty"`
	// Refused is why the change would be refused, of a dry run that has a plan all the same.
	Refused *Error `json:"refused,omitempty"`
	// InTheWay is what the readiness report has found that keeps the change from working, of
	// a dry run that was to look; empty = nothing.
	InTheWay []ready.Check `json:"in_the_way,omitempty"`
	// Production says how long it took until a node was promoted, Took until all was done.
	Production *Seconds `json:"production_seconds,omitempty"`
	Took       Seconds  `json:"took_seconds"`
	// Failed says what of the check hooks, or after the promotion, failed; "" = nothing.
	Failed string `json:"failed,omitempty"`
	// Unfinished is why the node that was promoted doesn't serve yet, or why that isn't
	// known; nil = it does.
	Unfinished *Error `json:"unfinished,omitempty"`
}

// RoleBackend is the part of [Backend] about roles.
type RoleBackend interface {
	// ChangeRole carries out a change of roles, and calls progress from one goroutine at
	// a time. When ctx ends the change goes on without its caller.
	ChangeRole(ctx context.Context, req RoleRequest, progress func(RoleProgress)) (*RoleReply, error)
}

func (s *Server) handleRoles(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/role", s.changeRole)
}

func (s *Server) changeRole(w http.ResponseWriter, r *http.Request) {
	var req RoleRequest
	if err := decode(r, &req); err != nil {
		fail(w, err)
		return
	}
	lines := newLineWriter(w)
	reply, err := s.backend.ChangeRole(r.Context(), req, func(p RoleProgress) { _ = lines.write("role_progress", p) })
	if err != nil {
		lines.fail(err)
		return
	}
	lines.last("role_reply", reply)
}

// ChangeRole is [RoleBackend.ChangeRole].
func (c *Client) ChangeRole(ctx context.Context, req RoleRequest, progress func(RoleProgress)) (*RoleReply, error) {
	body, err := c.do(ctx, http.MethodPost, "/v1/role", req)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var reply *RoleReply
	err = c.lines(ctx, body, func(l line) (bool, error) {
		if l.RoleProgress != nil && progress != nil {
			progress(*l.RoleProgress)
		}
		reply = l.RoleReply
		return reply != nil, nil
	})
	return reply, err
}
