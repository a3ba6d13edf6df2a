package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"repld/change"
	"repld/control"
	"repld/control/view"
	"repld/role"
)

// measures are the figures of the table.
type measures struct {
	sample    sampleSum
	seedBegan time.Time
	seeded    time.Duration
	seedLink  uint64 // bytes on the link until then

	followed        time.Duration
	operations      uint64
	written         uint64          // bytes, to write calls of the application; 0 = unknown
	link            uint64          // bytes sent meanwhile
	lag             []time.Duration // at each look
	cut             uint64          // barriers
	appliedBarriers int

	killed        time.Time
	acknowledged  uint64        // operations until then
	noticed       time.Duration // from the kill until the standby counted the link as down
	primaryMemory uint64
	standbyMemory uint64
	total         time.Duration

	failover, rejoin, failback changed
	ledger                     *role.Ledger
	fenced                     time.Duration // from the old primary's start
	following                  time.Duration // from the order to rejoin until a barrier of the new epoch was applied
	kept                       control.SalvageSet
	pause                      time.Duration // of the application at the failback: from its last operation on one node to its first on the other
}

// changed is what a change of roles took and gave up.
type changed struct {
	took  time.Duration // from the command to its end
	lost  uint64        // operations
	stale time.Duration // age of the oldest of them at the kill
	link  uint64        // bytes sent for it
}

// operations is what one run of the application reports.
type operations struct {
	mu    sync.Mutex
	base  map[string]uint64      // the number before a writer's first
	at    map[string][]time.Time // when each operation of a writer was reported
	bytes uint64                 // of the reports themselves
}

func (o *operations) line(text string) {
	now := time.Now()
	writer, number, _ := strings.Cut(text, " ")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil || seq == 0 {
		return // a dependency that prints something
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at == nil {
		o.at, o.base = make(map[string][]time.Time), make(map[string]uint64)
	}
	if len(o.at[writer]) == 0 {
		o.base[writer] = seq - 1
	}
	o.at[writer] = append(o.at[writer], now)
	o.bytes += uint64(len(text)) + 1
}

func (o *operations) count() (n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.at {
		n += uint64(len(at))
	}
	return n
}

// bounds returns the number before a writer's first operation, and that of its last.
func (o *operations) bounds(writer string) (base, last uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.base[writer], o.base[writer] + uint64(len(o.at[writer]))
}

// times returns when the first operation of all writers was reported, and the last.
func (o *operations) times() (first, last time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.at {
		if first.IsZero() || at[0].Before(first) {
			first = at[0]
		}
		if at[len(at)-1].After(last) {
			last = at[len(at)-1]
		}
	}
	return first, last
}

func (o *operations) reported() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// missing counts the operations that were done and are not in complete, and says
// how old the oldest of them was when the primary was killed.
func (o *operations) missing(complete map[string]uint64, killed time.Time) (lost uint64, stale time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for writer, at := range o.at {
		if have, all := complete[writer]-min(complete[writer], o.base[writer]), uint64(len(at)); have < all {
			lost += all - have
			stale = max(stale, killed.Sub(at[have]))
		}
	}
	return lost, stale
}

// oldestAfter returns when the first operation was reported that was done after a
// moment, by the wall clock.
func (o *operations) oldestAfter(moment time.Time) (oldest time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.at {
		i, _ := slices.BinarySearchFunc(at, moment, func(t, moment time.Time) int { return t.Compare(moment) })
		if i < len(at) && (!ok || at[i].Before(oldest)) {
			oldest, ok = at[i], true
		}
	}
	return oldest, ok
}

// lag is the age of the oldest operation that the standby does not have: an outside
// view, that does not depend on when the primary notices a change.
func (s *story) lag(g *control.Group) (lag time.Duration, ok bool) {
	b := g.Barriers.Applied
	if b == nil || b.CutAt.IsZero() {
		return 0, false
	}
	if oldest, behind := s.done.oldestAfter(b.CutAt.Round(0)); behind {
		lag = max(time.Since(oldest), 0)
	}
	return lag, true
}

// follow watches the standby following for a while.
func (s *story) follow(ctx context.Context) error {
	first, err := s.primaryCtl.Status(ctx)
	if err != nil {
		return err
	}
	began, operations, written := time.Now(), s.done.count(), s.application.written()
	reported := s.done.reported()
	s.m.seedLink = sentBytes(first)
	var last *control.Status
	seen := make(map[change.BarrierID]bool)
	nextLine := began
	err = s.wait(ctx, "the standby was watched", func() (bool, error) {
		if last, err = s.primaryCtl.Status(ctx); err != nil {
			return false, err
		}
		now := time.Now()
		g := &last.Groups[0]
		lag, known := s.lag(g)
		if known {
			s.m.lag = append(s.m.lag, lag)
		}
		if b := g.Barriers.Applied; b != nil {
			seen[b.ID] = true
		}
		if s.screen.terminal() || !now.Before(nextLine) {
			nextLine = nextLine.Add(time.Second)
			s.screen.draw(s.followLine(g, lag, sentBytes(last)))
		}
		return now.Sub(began) >= s.o.Follow, nil
	})
	s.screen.finish()
	if err != nil {
		return err
	}
	s.m.followed = time.Since(began)
	s.m.operations = s.done.count() - operations
	if now := s.application.written(); now > 0 && written > 0 {
		s.m.written = now - written - (s.done.reported() - reported)
	}
	s.m.link = sentBytes(last) - s.m.seedLink
	s.m.cut = captured(last) - captured(first)
	s.m.appliedBarriers = max(len(seen)-1, 0) // the first was there
	s.m.primaryMemory = s.primary.peakMemory()
	return nil
}

func (s *story) followLine(g *control.Group, lag time.Duration, sent uint64) string {
	barrier := "none"
	if b := g.Barriers.Applied; b != nil {
		barrier = b.ID.String()
	}
	return fmt.Sprintf("following  lag %s  applied barrier %s  %s done  %s on the link",
		seconds(lag), barrier, view.Count(s.done.count(), "operation"), view.Bytes(sent-s.m.seedLink))
}

func sentBytes(st *control.Status) uint64 {
	if g := &st.Groups[0]; g.Sent != nil {
		return g.Sent.Bytes
	}
	return 0
}

func captured(st *control.Status) uint64 {
	if b := st.Groups[0].Barriers.Captured; b != nil {
		return b.Seq
	}
	return 0
}

// quantile returns the value below which the share q of the sorted values lies.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// lagText is the distribution of the lag.
func lagText(lag []time.Duration) string {
	sorted := slices.Sorted(slices.Values(lag))
	if len(sorted) == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%s p50, %s p95, %s max (%d looks)",
		seconds(quantile(sorted, 0.5)), seconds(quantile(sorted, 0.95)), seconds(sorted[len(sorted)-1]), len(sorted))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
