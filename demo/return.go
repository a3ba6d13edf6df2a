package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/health"
)

// tooLate is a file that is written on the old primary while its peer serves already.
const tooLate = "written-too-late.txt"

// comeBack starts the old primary again, and wants it to be fenced.
func (s *story) comeBack(ctx context.Context) error {
	late := []byte("written on the old primary after its peer took over\n")
	if err := os.WriteFile(filepath.Join(s.place.tree(primaryName), tooLate), late, 0o644); err != nil {
		return err
	}
	s.gone[tooLate] = digestOf(late)
	began := time.Now()
	if err := s.startPrimary(""); err != nil {
		return err
	}
	err := s.wait(ctx, "the old primary is fenced", func() (bool, error) {
		st, err := s.primaryCtl.Status(ctx)
		if err != nil {
			return false, ignoreNoDaemon(err)
		}
		return slices.ContainsFunc(st.Health, func(c health.Condition) bool { return c.Code == health.Fenced }), nil
	})
	if err != nil {
		return err
	}
	s.m.fenced = time.Since(began)
	s.check(checkFenced, func() (string, error) { return s.oneServes(ctx) })
	s.screen.say("started the old primary again (process %d), with a file more: it asks its peer, and is fenced after %s", s.primary.pid(), view.Duration(s.m.fenced))
	return nil
}

// oneServes wants the old primary to be down, and its peer to serve.
func (s *story) oneServes(ctx context.Context) (string, error) {
	old, err := s.primaryCtl.Status(ctx)
	if err != nil {
		return "", err
	}
	now, err := s.standbyCtl.Status(ctx)
	if err != nil {
		return "", err
	}
	if old.Role != control.RoleDown || now.Role != control.RoleProduction || now.Epoch != 2 {
		return "", fmt.Errorf("the old primary is %s in epoch %d, its peer %s in epoch %d; want %s and %s",
			old.Role, old.Epoch, now.Role, now.Epoch, control.RoleDown, control.RoleProduction)
	}
	return fmt.Sprintf("the old primary is %s, its peer %s in epoch %d", old.Status, now.Status, now.Epoch), nil
}

// rejoin makes the old primary a standby of the new one, and looks at what was kept of it.
func (s *story) rejoin(ctx context.Context) error {
	before, err := s.standbyCtl.Status(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	reply, took, err := s.change(ctx, s.primaryCtl, control.RoleRequest{Verb: control.VerbRejoin})
	if err != nil {
		return err
	}
	if err := s.applied(ctx, s.primaryCtl, 2); err != nil {
		return err
	}
	s.m.rejoin.took, s.m.following = took, time.Since(began)
	after, err := s.standbyCtl.Status(ctx)
	if err != nil {
		return err
	}
	s.m.rejoin.link = sentBytes(after) - min(sentBytes(before), sentBytes(after))
	s.check(checkKept, func() (string, error) { return s.salvage(ctx) })
	s.screen.say("replctl rejoin: it is %s after %s, and follows its peer after %s; %s of what only it had are kept",
		reply.Status, view.Duration(took), view.Duration(s.m.following), view.Count(s.m.kept.Count, "object"))
	return nil
}

// applied waits until a node has applied a barrier of an epoch.
func (s *story) applied(ctx context.Context, node *control.Client, epoch change.Epoch) error {
	return s.wait(ctx, fmt.Sprintf("a barrier of epoch %d is applied", epoch), func() (bool, error) {
		st, err := node.Status(ctx)
		if err != nil {
			return false, err
		}
		b := st.Groups[0].Barriers.Applied
		return b != nil && b.Epoch == epoch, nil
	})
}

// salvage takes out what was kept of the old primary, and wants all that only that had.
func (s *story) salvage(ctx context.Context) (string, error) {
	list, err := s.primaryCtl.Salvages(ctx, control.SalvagesRequest{})
	if err != nil {
		return "", err
	}
	if len(list.Sets) != 1 {
		return "", fmt.Errorf("found %d sets, want 1", len(list.Sets))
	}
	s.m.kept = list.Sets[0]
	to := s.place.salvaged()
	if _, err := s.primaryCtl.RestoreSalvage(ctx, control.RestoreSalvageRequest{ID: s.m.kept.ID, To: to}); err != nil {
		return "", err
	}
	var p problems
	for file, want := range s.gone {
		data, err := os.ReadFile(filepath.Join(to, treeName, file))
		switch {
		case err != nil:
			p.add("%s is not kept: %v", file, err)
		case digestOf(data) != want:
			p.add("%s is kept with other bytes", file)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.place.tree(primaryName), tooLate)); !errors.Is(err, os.ErrNotExist) {
		p.add("%s is still in the tree: %v", tooLate, err)
	}
	return fmt.Sprintf("%s of lost operations and of %s, taken out byte by byte (replctl salvage restore %s)",
		view.Count(uint64(len(s.gone)), "file"), tooLate, s.m.kept.ID), p.err()
}

// failBack hands production back while the application works, as an operator's demote
// and promote hooks would: they stop it here and start it there.
func (s *story) failBack(ctx context.Context) error {
	if err := s.application.stop(ctx); err != nil {
		return err
	}
	before := s.done
	reply, took, err := s.change(ctx, s.primaryCtl, control.RoleRequest{Verb: control.VerbFailback})
	if err != nil {
		return err
	}
	s.m.failback.took = took
	if reply.Status != control.StatusProduction || reply.Epoch != 3 {
		return fmt.Errorf("after the failback the designated primary is %s in epoch %d: want %s in epoch 3", reply.Status, reply.Epoch, control.StatusProduction)
	}
	if err := s.startApplication(ctx, primaryName); err != nil {
		return err
	}
	_, last := before.times()
	first, _ := s.done.times()
	s.m.pause = first.Sub(last)
	s.check(checkHandOver, func() (string, error) { return s.handedOver(before) })
	s.screen.say("replctl failback: the designated primary is %s, in epoch %d, %s after the command; the application goes on there",
		reply.Status, reply.Epoch, view.Duration(took))
	return nil
}

// handedOver wants the application to go on right behind what it has done before.
func (s *story) handedOver(before *operations) (string, error) {
	var p problems
	for _, w := range writers {
		_, last := before.bounds(w)
		next, _ := s.done.bounds(w)
		s.m.failback.lost += last - min(last, next)
		if next != last {
			p.add("%s had done operation %d and goes on behind operation %d", w, last, next)
		}
	}
	return fmt.Sprintf("the application goes on right behind the %s of its run before", view.Count(before.count(), "operation")), p.err()
}

// finish ends all in order, and checks the standby once more.
func (s *story) finish(ctx context.Context) error {
	if err := s.applied(ctx, s.standbyCtl, 3); err != nil {
		return err
	}
	if err := s.application.stop(ctx); err != nil {
		return err
	}
	s.screen.progress("checking")
	s.check(checkEqual, func() (string, error) { return s.equal(ctx) })
	st, err := s.standbyCtl.Status(ctx)
	if err != nil {
		return err
	}
	s.said = st.Groups[0].Barriers.Applied
	s.m.standbyMemory = max(s.m.standbyMemory, s.standby.peakMemory())
	for _, p := range []*process{s.primary, s.standby} {
		if err := p.stop(ctx); err != nil {
			return err
		}
	}
	f, err := inspect(ctx, s.place, catalogOf(s.place), s.said)
	if err != nil {
		return err
	}
	last := check{name: checkLast, text: view.Count(s.done.count(), "operation") + " of the last run are there"}
	if lost, _ := s.done.missing(f.complete, time.Time{}); lost > 0 {
		last.err = fmt.Errorf("%s of the last run are missing", view.Count(lost, "operation"))
	}
	s.finally = append(f.checks, last)
	s.screen.say("stopped the application and both daemons; the standby is at barrier %s", s.said.ID)
	return nil
}

// equal has both sides compared by re-reading them.
func (s *story) equal(ctx context.Context) (string, error) {
	limit := control.BarrierRequest{Wait: control.BarrierApplied, Timeout: control.Seconds(patience)}
	if _, err := s.primaryCtl.Barrier(ctx, limit); err != nil {
		return "", err
	}
	report, err := s.primaryCtl.Verify(ctx, control.VerifyRequest{Full: true}, func(control.VerifyProgress) {})
	switch {
	case err != nil:
		return "", err
	case !report.Equal:
		return "", fmt.Errorf("replctl verify has found %d differences", report.DifferencesTotal)
	}
	return fmt.Sprintf("replctl verify: %s at barrier %s", view.Count(report.Files, "file"), report.Barrier), nil
}

// failed names the checks that did not hold.
func failed(checks []check) (names []string) {
	for _, c := range checks {
		if c.err != nil {
			names = append(names, c.name)
		}
	}
	return names
}
