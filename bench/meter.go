package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sample is one measurement.
type sample struct {
	Seconds      float64 `json:"seconds"`
	CPU          float64 `json:"cpu_seconds"` // of both sides
	Wire         uint64  `json:"wire_bytes"`  // both directions, with headers
	SenderPeak   uint64  `json:"sender_peak"` // resident, bytes
	ReceiverPeak uint64  `json:"receiver_peak"`
	Journal      uint64  `json:"journal_bytes"` // disk use of both logs afterwards
}

// memoryEvery is how often peaks are read. A process's own peak never sinks, so
// that only the growth of its last moments can be missed.
const memoryEvery = 20 * time.Millisecond

// ticksPerSecond is USER_HZ, in which proc(5) counts processor time.
const ticksPerSecond = 100

// meter measures a side while it works.
type meter struct {
	side side
	wire uint64
	done time.Duration // processor time of senders that had ended
	err  error

	stop chan struct{}
	wg   sync.WaitGroup
	peak [2]uint64
	cpu  map[int][2]float64 // process → at the start, last seen
}

func newMeter(s side) *meter {
	m := &meter{side: s, done: s.ended(), stop: make(chan struct{}), cpu: map[int][2]float64{}}
	m.wire, m.err = loopback()
	sender, receiver := s.processes()
	for _, pid := range []int{sender, receiver} {
		if pid != 0 {
			// proc(5): 5 resets the peak resident set size. Where that is not allowed the
			// peak is that of the process's life.
			_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
			cpu := processCPU(pid)
			m.cpu[pid] = [2]float64{cpu, cpu}
		}
	}
	m.wg.Go(func() {
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		for {
			m.look()
			select {
			case <-m.stop:
				return
			case <-tick.C:
			}
		}
	})
	return m
}

// look reads peaks and processor times.
func (m *meter) look() {
	sender, receiver := m.side.processes()
	for i, root := range []int{sender, receiver} {
		if root == 0 {
			continue
		}
		for _, pid := range append(descendants(root), root) {
			m.peak[i] = max(m.peak[i], peakMemory(pid))
		}
		// The time of children is in that of the parent once they have ended.
		c := m.cpu[root]
		c[1] = max(c[1], processCPU(root))
		m.cpu[root] = c
	}
}

// end stops measuring.
func (m *meter) end() (sample, error) {
	close(m.stop)
	m.wg.Wait()
	m.look()
	wire, err := loopback()
	if m.err != nil || err != nil {
		return sample{}, fmt.Errorf("count bytes: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	journals, err := m.side.journals(ctx)
	if err != nil {
		return sample{}, err
	}
	s := sample{Wire: wire - m.wire, SenderPeak: m.peak[0], ReceiverPeak: m.peak[1], Journal: journals}
	s.CPU = (m.side.ended() - m.done).Seconds()
	sender, receiver := m.side.processes()
	for _, pid := range []int{sender, receiver} {
		s.CPU += m.cpu[pid][1] - m.cpu[pid][0]
	}
	return s, nil
}

// processCPU is the user and system time of a process and of its children that have
// ended, in seconds; 0 if there is no such process.
func processCPU(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest)
	const utime = 14 - 3 // proc(5) counts from 1, and state, the third, is first here
	var ticks uint64
	for i := utime; i < utime+4 && i < len(fields); i++ {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err == nil {
			ticks += n
		}
	}
	return float64(ticks) / ticksPerSecond
}

// peakMemory is VmHWM of a process in bytes, 0 if there is no such process.
func peakMemory(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// descendants are the children of a process, and theirs.
func descendants(pid int) (all []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(b)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(append(all, child), descendants(child)...)
		}
	}
	return all
}
