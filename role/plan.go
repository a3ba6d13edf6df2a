package role

import "slices"

// Kind is a kind of plan. The words are stored and logged.
type Kind string

// The plans. A failback is a cutover towards the designated primary; an old primary
// that returns does so without an order, and its plan only describes it.
const (
	NoPlan     Kind = ""
	Cutover    Kind = "cutover"     // on the node that serves
	TakeOver   Kind = "take-over"   // on the other one, once it has the grant
	Failover   Kind = "failover"    // on a node that stands by or is down
	ServeAlone Kind = "serve-alone" // a failover on a node that is held
	StepDown   Kind = "step-down"
	Rejoin     Kind = "rejoin"
	Return     Kind = "return"
)

// Name is the name of a step. The words are stored and logged.
type Name string

// The steps.
const (
	NoStep        Name = ""
	StepReady     Name = "ready"
	StepDemote    Name = "demote"
	StepBarrier   Name = "barrier"
	StepDatabases Name = "databases"
	StepGrant     Name = "grant"
	StepTaken     Name = "taken"
	StepLedger    Name = "ledger"
	StepProof     Name = "proof"
	StepApply     Name = "apply"
	StepPromote   Name = "promote"
	StepOpen      Name = "open"
	StepServices  Name = "services"
	StepCheck     Name = "check"
	StepLeave     Name = "down"
	StepSalvage   Name = "salvage"
	StepAdopt     Name = "adopt"
	StepJoin      Name = "join"
	StepAsk       Name = "ask"
)

// Side is a node, by what it is when the plan begins.
type Side string

// The sides.
const (
	Here Side = "here" // the node that carries out the plan
	Peer Side = "peer"
)

// Step is one step of a plan. Each can be repeated.
type Step struct {
	Name  Name
	At    Side
	Does  string   // what it does, in words
	Needs []string // what must hold before it
	Undo  string   // what takes it back; "" = nothing has to be taken back
	Final bool     // once it has ended there is no way back, only on
	Waits bool     // it ends by word of the peer
	Soft  bool     // if it fails the plan ends there, and what was reached stays
}

// Plan is a list of steps. It is data: nothing happens before an order begins it.
type Plan struct {
	Kind  Kind
	Does  string
	Steps []Step
}

// Fault returns the name of the fault point before or after a step:
// "role/cutover/grant/begun", "role/cutover/grant/ended".
func (k Kind) Fault(step Name, ended bool) string {
	when := "begun"
	if ended {
		when = "ended"
	}
	return "role/" + string(k) + "/" + string(step) + "/" + when
}

// Faults returns the names of all fault points, in the order of the plans.
func Faults() []string {
	var all []string
	for _, p := range plans {
		if p.Kind == Return {
			continue
		}
		for _, s := range p.Steps {
			all = append(all, p.Kind.Fault(s.Name, false), p.Kind.Fault(s.Name, true))
		}
	}
	return all
}

// PlanOf returns a plan; one without steps if there is none of the kind.
func PlanOf(k Kind) Plan {
	for _, p := range plans {
		if p.Kind == k {
			return p
		}
	}
	return Plan{Kind: k}
}

// find returns the index of a step, or -1.
func (p Plan) find(step Name) int {
	return slices.IndexFunc(p.Steps, func(s Step) bool { return s.Name == step })
}

// past reports whether a plan at step can't go back.
func (p Plan) past(step Name) bool {
	i := p.find(step)
	return i > 0 && slices.ContainsFunc(p.Steps[:i], func(s Step) bool { return s.Final })
}

// afterFinal returns the first step from which there is only forward.
func (p Plan) afterFinal() Name {
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Final })
	if i < 0 || i+1 >= len(p.Steps) {
		return NoStep
	}
	return p.Steps[i+1].Name
}

// next returns the step after one, false at the end.
func (p Plan) next(step Name) (Name, bool) {
	if i := p.find(step); i >= 0 && i+1 < len(p.Steps) {
		return p.Steps[i+1].Name, true
	}
	return NoStep, false
}

// undoFrom returns the last step up to and with step that has something to take
// back, false if there is none.
func (p Plan) undoFrom(i int) (Name, bool) {
	for ; i >= 0; i-- {
		if p.Steps[i].Undo != "" {
			return p.Steps[i].Name, true
		}
	}
	return NoStep, false
}

// The services of a node start and stop by its hooks.
const (
	runPromote = "runs the promote hooks: the services start"
	runDemote  = "runs the demote hooks: the services stop"
	runCheck   = "runs the check hooks"
)

var plans = []Plan{
	{Cutover, "the peer becomes production, this node stands by; nothing is lost", []Step{
		{Name: StepReady, At: Here, Does: "checks that the peer stands by, is close behind, and would be able to take over",
			Needs: []string{"this node serves", "the link is up", "the peer stands by in this node's epoch"}},
		{Name: StepDemote, At: Here, Does: runDemote, Undo: runPromote},
		{Name: StepBarrier, At: Here, Does: "cuts the last barrier and waits until the peer has applied it",
			Needs: []string{"the services are stopped", "the link is up"}},
		{Name: StepDatabases, At: Here, Does: "shuts the databases down and waits until the peer's replicas have all of their logs",
			Undo: "starts the databases again as they were"},
		{Name: StepGrant, At: Here, Does: "writes down that the next epoch is the peer's; from here this node never returns by itself", Final: true,
			Needs: []string{"the peer has applied the last barrier", "the link is up"}},
		{Name: StepTaken, At: Peer, Does: "takes the epoch, promotes its databases and runs its promote and check hooks", Waits: true},
	}},
	{TakeOver, "this node becomes production by the peer's grant", []Step{
		{Name: StepPromote, At: Here, Does: "takes the lease, if there is coordination, and writes down the new epoch", Final: true,
			Needs: []string{"this node stands by in the epoch of the grant", "the last barrier is applied"}},
		{Name: StepOpen, At: Here, Does: "promotes the databases"},
		{Name: StepServices, At: Here, Does: runPromote},
		{Name: StepCheck, At: Here, Does: runCheck, Soft: true},
	}},
	{Failover, "this node becomes production without the peer; what it has not received is given up", []Step{
		{Name: StepLedger, At: Here, Does: "writes the loss ledger",
			Needs: []string{"a complete barrier of every group was received", "the peer doesn't serve in good health"}},
		{Name: StepProof, At: Here, Does: "makes sure that the peer doesn't serve: asks it to step down, or fences it, or takes its expired lease, or relies on --peer-is-down"},
		{Name: StepApply, At: Here, Does: "applies the newest complete barrier, unless applying is paused or halted, and sets aside what follows it",
			Needs: []string{"the peer doesn't serve"}},
		{Name: StepPromote, At: Here, Does: "takes the lease, if there is coordination, and writes down the new epoch", Final: true,
			Needs: []string{"the peer has not been heard to serve since the plan began"}},
		{Name: StepOpen, At: Here, Does: "promotes the databases"},
		{Name: StepServices, At: Here, Does: runPromote},
		{Name: StepCheck, At: Here, Does: runCheck, Soft: true},
	}},
	{ServeAlone, "this node, which is held, serves without its peer", []Step{
		{Name: StepProof, At: Here, Does: "makes sure that the peer doesn't serve: asks it to step down, or fences it, or takes its expired lease, or relies on --peer-is-down"},
		{Name: StepPromote, At: Here, Does: "takes the lease, if there is coordination, and lets this node serve on in its epoch", Final: true,
			Needs: []string{"no higher epoch is known"}},
		{Name: StepOpen, At: Here, Does: "opens the databases for writing, if they are not"},
		{Name: StepServices, At: Here, Does: runPromote},
		{Name: StepCheck, At: Here, Does: runCheck, Soft: true},
	}},
	{StepDown, "this node stops serving and stays down", []Step{
		{Name: StepReady, At: Here, Does: "checks that no other plan is carried out"},
		{Name: StepDemote, At: Here, Does: runDemote, Undo: runPromote},
		{Name: StepLeave, At: Here, Does: "writes down that this node serves no more until an operator says so", Final: true},
	}},
	{Rejoin, "this node, which served before, becomes the peer's standby", []Step{
		{Name: StepReady, At: Here, Does: "checks that the peer serves in a higher epoch and that there is room for the salvage",
			Needs: []string{"this node is down", "the link is up", "the peer serves"}},
		{Name: StepDemote, At: Here, Does: runDemote},
		{Name: StepSalvage, At: Here, Does: "keeps what this node changed after the last common barrier, and its databases"},
		{Name: StepAdopt, At: Here, Does: "writes down that this node stands by in the peer's epoch", Final: true},
		{Name: StepJoin, At: Here, Does: "brings trees and databases to the peer's state, sending only what differs"},
	}},
	{Return, "this node, which produced before it stopped, starts", []Step{
		{Name: StepAsk, At: Peer, Does: "says whether it has taken over; without an answer this node holds, unless it can fence the peer, has the lease, or start_alone is serve"},
		{Name: StepServices, At: Here, Does: "runs the promote hooks if the peer has not taken over, the demote hooks if it has"},
	}},
}
