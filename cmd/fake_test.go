package cmd_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"repld/change"
	"repld/control"
	"repld/health"
	"repld/parity"
	"repld/ready"
	"repld/role"
)

// fakeDaemon is the daemon of a script's "daemon" command. Its answers are set
// by NAME=VALUE:
//
//	role=production|standby   status=WORD   node=NAME   at=PATH (of the socket)
//	exit=CODE                 every call but status fails with this exit code
//	block=CALL                this call never ends by itself
//	equal=false               verify finds a difference
//	health=TEXT               there is a warning
//	ready=LINK                a cutover would work, if the link is up
type fakeDaemon struct {
	state  control.Status
	code   control.Exit
	block  string
	differ bool
	link   string
	caller *exec.Cmd // ran in the background during the last await-call

	mu     sync.Mutex
	called map[string]chan struct{}
}

var fakes sync.Map // *testscript.TestScript → *fakeDaemon

func startFake(ts *testscript.TestScript, neg bool, args []string) {
	f := &fakeDaemon{called: map[string]chan struct{}{}, state: control.Status{
		Node: "slayer", Version: "0.1.0", Designated: control.DesignatedPrimary,
		Role: control.RoleProduction, Status: control.StatusProduction, Epoch: 1,
		Groups: []control.Group{{Name: "tree", Phase: control.PhaseStreaming,
			Trees: []control.TreePath{{Name: "tree", Path: "/srv/data"}}, Lag: &control.Lag{Seconds: new(control.Seconds(0))}}},
	}}
	path := ts.MkAbs("daemon/" + control.SocketName)
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "role":
			f.state.Role, f.state.Status = control.Role(value), control.NodeStatus(value)
		case "status":
			f.state.Status = control.NodeStatus(value)
		case "node":
			f.state.Node = value
		case "at":
			path = ts.MkAbs(value)
		case "exit":
			code, err := strconv.Atoi(value)
			ts.Check(err)
			f.code = control.Exit(code)
		case "block":
			f.block = value
		case "equal":
			f.differ = value == "false"
		case "ready":
			f.link = value
		case "health":
			f.state.Health = []health.Condition{{Code: health.BarrierLate, Severity: health.Warning, Text: value, Hint: "look"}}
		default:
			ts.Fatalf("daemon: unknown setting %q", arg)
		}
	}
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o700))
	ln, err := control.Listen(path)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- control.NewServer(ln, f, control.ServerOptions{}).Run(ctx) }()
	ts.Defer(func() {
		cancel()
		if err := <-ended; err != nil {
			ts.Logf("daemon: %v", err)
		}
		fakes.Delete(ts)
	})
	fakes.Store(ts, f)
	if !strings.HasPrefix(path, ts.Getenv("XDG_STATE_HOME")) {
		ts.Setenv("REPLCTL_SOCKET", path)
	}
}

func awaitCall(ts *testscript.TestScript, neg bool, args []string) {
	v, ok := fakes.Load(ts)
	if neg || len(args) != 1 || !ok {
		ts.Fatalf("usage: await-call NAME, after daemon")
	}
	f := v.(*fakeDaemon)
	select {
	case <-f.within(args[0]):
	case <-time.After(patience):
		ts.Fatalf("nobody called %s within %s", args[0], patience)
	}
	if running := ts.BackgroundCmds(); len(running) > 0 {
		f.caller = running[len(running)-1]
	}
}

func exited(ts *testscript.TestScript, neg bool, args []string) {
	v, ok := fakes.Load(ts)
	if neg || len(args) != 1 || !ok || v.(*fakeDaemon).caller == nil {
		ts.Fatalf("usage: exited CODE, after await-call and wait")
	}
	if got := strconv.Itoa(v.(*fakeDaemon).caller.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// within returns a channel that is closed once the call was made.
func (f *fakeDaemon) within(call string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.called[call] == nil {
		f.called[call] = make(chan struct{})
	}
	return f.called[call]
}

// enter notes a call and returns what it fails with.
func (f *fakeDaemon) enter(ctx context.Context, call string) error {
	entered := f.within(call)
	f.mu.Lock()
	select {
	case <-entered:
	default:
		close(entered)
	}
	f.mu.Unlock()
	if f.block == call {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.code != 0 {
		return control.Errorf(f.code, "this is exit %d", f.code).WithHint("what to do about %d", f.code)
	}
	return nil
}

func (f *fakeDaemon) Status(context.Context) (*control.Status, error) { s := f.state; return &s, nil }

func (f *fakeDaemon) Barrier(ctx context.Context, req control.BarrierRequest) (*control.BarrierReply, error) {
	return &control.BarrierReply{Barrier: fakeBarrier(), Group: req.Group, State: req.Wait}, f.enter(ctx, "barrier")
}

func (f *fakeDaemon) Barriers(ctx context.Context, req control.BarriersRequest) (*control.BarrierList, error) {
	return &control.BarrierList{Group: req.Group, Barriers: []control.BarrierEntry{{
		Barrier: fakeBarrier(), Age: new(control.Seconds(12 * time.Second)), State: control.BarrierApplied,
		Position: &control.LogPosition{Offset: 4096},
	}}}, f.enter(ctx, "barriers")
}

func (f *fakeDaemon) Verify(ctx context.Context, req control.VerifyRequest, progress func(control.VerifyProgress)) (*control.VerifyReport, error) {
	progress(control.VerifyProgress{FilesDone: 1})
	r := &control.VerifyReport{Group: req.Group, Equal: true, Barrier: new(fakeBarrier().ID), Files: 3, Bytes: 3000}
	if f.differ {
		r.Equal = req.Repair
		r.Differences = []control.Difference{{Path: "tree/a", Side: control.SideStandby, What: "content"}}
		r.DifferencesTotal = 2
	}
	return r, f.enter(ctx, "verify")
}

func (f *fakeDaemon) Pause(ctx context.Context, _ control.ApplyRequest) error {
	return f.enter(ctx, "pause")
}

func (f *fakeDaemon) Resume(ctx context.Context, req control.ApplyRequest) error {
	if req.Accept {
		return nil
	}
	return f.enter(ctx, "resume")
}

func (f *fakeDaemon) Events(ctx context.Context, req control.EventsRequest, each func(control.Event) error) error {
	if !req.Follow || req.Since > 0 {
		if err := each(control.Event{Seq: 1, At: fakeBarrier().CutAt, Type: control.EventLinkUp, Group: "tree", Text: "the link is up"}); err != nil {
			return err
		}
	}
	return f.enter(ctx, "events")
}

func (f *fakeDaemon) Ready(ctx context.Context) (*ready.Ready, error) {
	facts := ready.Facts{
		Node: "slayer", Peer: "megadeth", Role: "production", PeerRole: "standby", LinkUp: f.link == "up", Version: "0.1.0", PeerVersion: "0.1.0",
		Skew: new(time.Millisecond), SkewLimit: time.Second, Disks: []ready.Disk{{Node: "slayer", What: "state", Free: 2, Reserve: 1}},
		Groups: []ready.Group{{Name: "tree", Phase: "streaming", Lag: new(time.Duration(0)), Barrier: new(time.Second), Late: 10 * time.Second}},
		Here:   &parity.Facts{Node: "slayer", Packages: map[string]string{"php": "8.2"}}, There: &parity.Facts{Node: "megadeth", Packages: map[string]string{}},
		Runs: []ready.Run{{Kind: "cutover", Seconds: 1.25, Steps: []ready.Elapsed{{Step: "demote", Seconds: 1}}}},
	}
	report := ready.Report(facts)
	return &report, f.enter(ctx, "ready")
}

func (f *fakeDaemon) ChangeRole(ctx context.Context, req control.RoleRequest, progress func(control.RoleProgress)) (*control.RoleReply, error) {
	r := &control.RoleReply{Verb: req.Verb, Node: f.state.Node, Role: f.state.Role, Status: f.state.Status, Epoch: f.state.Epoch}
	kind := map[control.RoleVerb]role.Kind{control.VerbCutover: role.Cutover, control.VerbFailback: role.Cutover, control.VerbFailover: role.Failover,
		control.VerbRejoin: role.Rejoin, control.VerbSwitchTo: role.StepDown}[req.Verb]
	if kind == role.Failover {
		if _, known := req.Barriers["nothing"]; known {
			return nil, control.Errorf(control.ExitUsage, "no group %q on this node", "nothing")
		}
		cert := change.Certificate{ID: change.BarrierID{Epoch: 1, Seq: 812}}
		ledger := role.LedgerOf(role.State{}, role.Epoch{Number: 2}, role.ByClaim, role.Facts{Node: "slayer", Peer: "megadeth",
			Groups: []role.GroupFacts{{Group: "tree", Complete: cert, Captured: change.BarrierID{Epoch: 1, Seq: 813}, Files: []string{"tree/lost"}}}})
		r.Ledger = &ledger
	}
	if r.Nothing = req.Target == role.Role(f.state.Role); r.Nothing {
		return r, nil
	}
	if req.DryRun {
		r.Plan = role.PlanOf(kind).Render("slayer", "megadeth")
		if kind == role.Cutover && req.Ready {
			report, err := f.Ready(ctx)
			if err != nil {
				return nil, err
			}
			r.InTheWay = report.Failed(health.Critical)
		}
		return r, nil
	}
	progress(control.RoleProgress{Node: f.state.Node, Text: string(req.Verb) + " has begun"})
	r.Took, r.Production = control.Seconds(1500*time.Millisecond), new(control.Seconds(900*time.Millisecond))
	return r, f.enter(ctx, "change-role")
}

func (f *fakeDaemon) Maintenance(ctx context.Context, req control.MaintenanceRequest) (*control.MaintenanceReply, error) {
	r := &control.MaintenanceReply{Node: f.state.Node}
	if req.End {
		r.PeerError = "there is no link to the peer"
	} else {
		r.Until = control.TimeOf(time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC))
	}
	return r, f.enter(ctx, "maintenance")
}

func fakeBarrier() control.Barrier {
	return control.BarrierOf(change.Certificate{
		ID: change.BarrierID{Epoch: 1, Seq: 812}, CutAt: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC),
		Tree: change.Digest{0xab}, Rung: change.RungOptimistic,
	})
}

func (f *fakeDaemon) Invite(_ context.Context, req control.InviteRequest) (*control.InviteReply, error) {
	if !req.Replace {
		return nil, control.Errorf(control.ExitRefused, "this node is paired with megadeth").WithState("paired").
			WithHint("with --replace another node takes its place; megadeth is refused from then on")
	}
	return &control.InviteReply{Token: "repld1xtoken", Address: "192.0.2.1:7440"}, nil
}

func (f *fakeDaemon) Join(_ context.Context, req control.JoinRequest) (*control.JoinReply, error) {
	if req.Token != "repld1xtoken" {
		return nil, control.Errorf(control.ExitUsage, "join token: %q is none", req.Token)
	}
	return &control.JoinReply{Peer: "megadeth", Address: "192.0.2.2:7440", Key: "b3:00"}, nil
}

func (f *fakeDaemon) Rewind(ctx context.Context, req control.RewindRequest) (*control.RewindReply, error) {
	b := fakeBarrier()
	if req.To != b.ID {
		return nil, control.Errorf(control.ExitRefused, "the barrier isn't retained: %s", req.To).WithState("streaming").WithHint("replctl barriers")
	}
	return &control.RewindReply{Group: req.Group, Barrier: b, Newest: &change.BarrierID{Epoch: 1, Seq: 900}, Paused: true}, f.enter(ctx, "rewind")
}

func (f *fakeDaemon) Find(ctx context.Context, req control.BarriersRequest) (*control.BarrierList, error) {
	older := fakeBarrier()
	older.ID.Seq--
	return &control.BarrierList{Group: req.Group, Barriers: []control.BarrierEntry{
		{Barrier: fakeBarrier(), Version: &control.PathVersion{Kind: control.KindAbsent, Present: true}},
		{Barrier: older, Rewindable: true, Version: &control.PathVersion{Kind: "file", Bytes: new(uint64(1536)),
			Mtime: control.TimeOf(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)), Digest: change.Digest{0xcd}}},
	}}, f.enter(ctx, "barriers")
}

func (f *fakeDaemon) Restore(ctx context.Context, req control.RestoreRequest) (*control.RestoreReply, error) {
	return &control.RestoreReply{Group: req.Group, Targets: []string{filepath.Join(req.To, filepath.Base(req.Path))}, Files: 2, Bytes: 2048,
		NotPermitted: []string{"owner"}}, f.enter(ctx, "restore")
}

func (f *fakeDaemon) Salvages(ctx context.Context, req control.SalvagesRequest) (*control.SalvageList, error) {
	at := control.TimeOf(time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC))
	set := control.SalvageSet{ID: "1-7", At: at, By: "a barrier", Reasons: []string{"changed by somebody else"}, Count: 1, Bytes: 1024}
	if req.ID != "" {
		set.Entries = []control.SalvageEntry{{At: at, Path: "tree/a", Kept: "/srv/.repld-data/salvage/1-7/files/tree/a", Kind: "file", Bytes: 1024,
			Mtime: at, Reason: "changed by somebody else"}}
	}
	return &control.SalvageList{Group: req.Group, Sets: []control.SalvageSet{set}}, f.enter(ctx, "salvage")
}

func (f *fakeDaemon) RestoreSalvage(ctx context.Context, req control.RestoreSalvageRequest) (*control.RestoreReply, error) {
	return &control.RestoreReply{Group: req.Group, Targets: []string{filepath.Join(req.To, "tree")}, Files: 1, Bytes: 1024}, f.enter(ctx, "salvage")
}

func (f *fakeDaemon) RemoveSalvage(ctx context.Context, req control.RemoveSalvageRequest) (*control.SalvageSet, error) {
	return &control.SalvageSet{ID: req.ID, By: "a barrier", Count: 1, Bytes: 1024}, f.enter(ctx, "salvage")
}

func (f *fakeDaemon) Databases(context.Context, control.DatabaseRequest) (*control.DatabaseList, error) {
	return &control.DatabaseList{Databases: []control.Database{{Group: "tree", Name: "shop", Engine: "postgres",
		Gate: "0/1A2B3C8", Received: "0/1A2B400", Replayed: "0/1A2B3C8", Connected: true, SpoolBytes: 1 << 20}}}, nil
}

func (f *fakeDaemon) SeedDatabase(_ context.Context, req control.DatabaseRequest) (*control.DatabaseSeedReply, error) {
	if req.Name != "shop" {
		return nil, control.Errorf(control.ExitUsage, "no database %q on this node", req.Name)
	}
	return &control.DatabaseSeedReply{Group: "tree", Name: "shop", DataDir: "/srv/replica", Bytes: 1 << 30}, nil
}
