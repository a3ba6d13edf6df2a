package control

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"repld/change"
	"repld/health"
)

// fakeBackend answers with its fields; calls that block do so until their
// context ends.
type fakeBackend struct {
	state  Status
	log    *EventLog
	block  bool
	err    error
	paused chan ApplyRequest
}

func (f *fakeBackend) Status(context.Context) (*Status, error) { s := f.state; return &s, nil }

func (f *fakeBackend) Barrier(ctx context.Context, req BarrierRequest) (*BarrierReply, error) {
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &BarrierReply{Barrier: testBarrier(), Group: req.Group, State: req.Wait}, f.err
}

func (f *fakeBackend) Barriers(_ context.Context, req BarriersRequest) (*BarrierList, error) {
	list := &BarrierList{Group: req.Group}
	for range req.Limit {
		list.Barriers = append(list.Barriers, BarrierEntry{Barrier: testBarrier()})
	}
	return list, f.err
}

func (f *fakeBackend) Verify(ctx context.Context, req VerifyRequest, progress func(VerifyProgress)) (*VerifyReport, error) {
	for i := range uint64(3) {
		progress(VerifyProgress{FilesDone: i})
	}
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &VerifyReport{Group: req.Group, Equal: req.Repair}, f.err
}

func (f *fakeBackend) Pause(_ context.Context, req ApplyRequest) error {
	f.paused <- req
	return f.err
}

func (f *fakeBackend) Resume(_ context.Context, req ApplyRequest) error {
	if !req.Accept {
		return Errorf(ExitRefused, "group tree is halted").WithState("halted").WithHint("resume --accept")
	}
	return f.err
}

func (f *fakeBackend) Events(ctx context.Context, req EventsRequest, each func(Event) error) error {
	return f.log.Read(ctx, time.Time{}, req.Follow, each)
}

func testBarrier() Barrier {
	return BarrierOf(change.Certificate{
		ID: change.BarrierID{Epoch: 3, Seq: 812}, CutAt: time.Date(2026, 11, 21, 8, 0, 0, 1e8, time.UTC),
		Tree: change.Digest{1}, Rung: change.RungOptimistic,
	})
}

func newFake(t *testing.T) *fakeBackend {
	log, err := OpenEventLog(t.TempDir(), EventLogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return &fakeBackend{
		state: Status{Node: "slayer", Role: RoleProduction, Status: StatusProduction, Epoch: 1,
			Groups: []Group{{Name: "tree", Phase: PhaseStreaming}}},
		log: log, paused: make(chan ApplyRequest, 1),
	}
}

// serve runs a server of b until the test ends and returns a client of it.
func serve(t *testing.T, b Backend) (*Client, context.CancelFunc) {
	t.Helper()
	path := filepath.Join(t.TempDir(), SocketName)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(ln, b, ServerOptions{}).Run(ctx) }()
	c := NewClient(path, ClientOptions{})
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return c, cancel
}

func wantExit(t *testing.T, err error, code Exit) *Error {
	t.Helper()
	if ExitOf(err) != code {
		t.Fatalf("got %v (exit %d), want exit %d", err, ExitOf(err), code)
	}
	var e *Error
	errors.As(err, &e)
	return e
}

var lateBarrier = health.Condition{Code: health.BarrierLate, Severity: health.Warning, Text: "no barrier for 12 s"}

func (f *fakeBackend) Invite(context.Context, InviteRequest) (*InviteReply, error) {
	return &InviteReply{Token: "token"}, nil
}

func (f *fakeBackend) Join(_ context.Context, req JoinRequest) (*JoinReply, error) {
	if req.Token == "" {
		return nil, Errorf(ExitUsage, "no token")
	}
	return &JoinReply{Peer: "megadeth"}, nil
}

func (f *fakeBackend) Rewind(_ context.Context, req RewindRequest) (*RewindReply, error) {
	return &RewindReply{Group: req.Group, Barrier: testBarrier(), Paused: true}, f.err
}

func (f *fakeBackend) Find(_ context.Context, req BarriersRequest) (*BarrierList, error) {
	return &BarrierList{Group: req.Group, Barriers: []BarrierEntry{{Barrier: testBarrier(), Version: &PathVersion{Kind: req.Find}}}}, f.err
}

func (f *fakeBackend) Restore(_ context.Context, req RestoreRequest) (*RestoreReply, error) {
	return &RestoreReply{Group: req.Group, Targets: []string{req.To + "/" + req.Path}}, f.err
}

func (f *fakeBackend) Salvages(_ context.Context, req SalvagesRequest) (*SalvageList, error) {
	if req.ID == "" {
		return &SalvageList{Group: req.Group}, f.err
	}
	return &SalvageList{Group: req.Group, Sets: []SalvageSet{{ID: req.ID, Count: uint64(req.Limit)}}}, f.err
}

func (f *fakeBackend) RestoreSalvage(_ context.Context, req RestoreSalvageRequest) (*RestoreReply, error) {
	return &RestoreReply{Group: req.Group, Targets: []string{req.To + "/" + req.ID}}, f.err
}

func (f *fakeBackend) RemoveSalvage(_ context.Context, req RemoveSalvageRequest) (*SalvageSet, error) {
	return &SalvageSet{ID: req.ID, By: req.Group, Count: 1}, f.err
}

func (f *fakeBackend) Databases(context.Context, DatabaseRequest) (*DatabaseList, error) {
	return &DatabaseList{Databases: []Database{{Group: "tree", Name: "shop", Engine: "postgres"}}}, nil
}

func (f *fakeBackend) SeedDatabase(_ context.Context, req DatabaseRequest) (*DatabaseSeedReply, error) {
	return &DatabaseSeedReply{Group: "tree", Name: req.Name}, nil
}

func (f *fakeBackend) Maintenance(_ context.Context, req MaintenanceRequest) (*MaintenanceReply, error) {
	return &MaintenanceReply{Node: "slayer", Until: TimeOf(time.Unix(int64(req.For.Duration().Seconds()), 0))}, nil
}

func (f *fakeBackend) ChangeRole(_ context.Context, req RoleRequest, progress func(RoleProgress)) (*RoleReply, error) {
	progress(RoleProgress{Node: "a", Type: EventPlanStep, Text: string(req.Verb)})
	return &RoleReply{Verb: req.Verb, Node: "a"}, f.err
}
