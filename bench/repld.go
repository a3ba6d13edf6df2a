package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"repld/control"
)

// repld is a pair of daemons.
type repld struct {
	program          string
	src, token       string
	states           [2]string // the state directories
	profile          string    // "" = none
	primary, standby *process
	sender           atomic.Int64 // process of the primary, 0: none
	clients          [2]*control.Client
	logs             []*os.File
}

// The places of clients and states.
const (
	atPrimary = 0
	atStandby = 1
)

func startRepld(ctx context.Context, o options, sequence string, at places) (side, error) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := pc.LocalAddr().String()
	pc.Close()
	program, err := filepath.Abs(filepath.Join(o.bin, "repld"))
	if err != nil {
		return nil, err
	}
	s := &repld{program: program, src: at.src, states: [2]string{at.srcState, at.dstState}}
	if o.profile != "" {
		if s.profile, err = filepath.Abs(filepath.Join(o.profile, sequence)); err != nil {
			return nil, err
		}
	}
	for i := range s.clients {
		s.clients[i] = control.NewClient(filepath.Join(s.states[i], "control.sock"), control.ClientOptions{})
	}
	if s.standby, err = s.daemon(atStandby, at.dst, "--listen", address); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = poll(ctx, 10*time.Millisecond, func() error {
		b, err := os.ReadFile(at.dstState + ".out")
		if err != nil {
			return err
		}
		token, complete := strings.CutSuffix(string(b), "\n")
		s.token = strings.TrimPrefix(token, "join token: ")
		if !complete {
			return fmt.Errorf("the standby prints no join token:\n%s", s.tail(atStandby))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// daemon starts one of the two.
func (s *repld) daemon(place int, dir string, more ...string) (*process, error) {
	role := [...]string{atPrimary: "primary", atStandby: "standby"}[place]
	out, err := os.Create(s.states[place] + ".out")
	if err != nil {
		return nil, err
	}
	s.logs = append(s.logs, out)
	log, err := os.Create(s.states[place] + ".log")
	if err != nil {
		return nil, err
	}
	s.logs = append(s.logs, log)
	args := append([]string{role, dir, "--state", s.states[place]}, more...)
	if s.profile != "" {
		args = append(args, "--profile", filepath.Join(s.profile, role))
	}
	return startProcess(out, log, s.program, args...)
}

// bring starts the primary if it doesn't run, and waits for a barrier.
func (s *repld) bring(ctx context.Context) error {
	if s.primary == nil {
		var err error
		if s.primary, err = s.daemon(atPrimary, s.src, "--join", s.token); err != nil {
			return err
		}
		s.sender.Store(int64(s.primary.pid()))
		err = poll(ctx, 5*time.Millisecond, func() error {
			st, err := s.clients[atPrimary].Status(ctx)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, s.tail(atPrimary))
			}
			if st.Peer == nil || st.Peer.Link != control.LinkUp {
				return errors.New("the primary has no link")
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err := s.clients[atPrimary].Barrier(ctx, control.BarrierRequest{Wait: control.BarrierApplied})
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, s.tail(atPrimary), s.tail(atStandby))
	}
	return nil
}

func (s *repld) processes() (sender, receiver int) { return int(s.sender.Load()), s.standby.pid() }

func (s *repld) ended() time.Duration { return 0 }

func (s *repld) journals(ctx context.Context) (uint64, error) {
	var sum uint64
	for place, c := range s.clients {
		if place == atPrimary && s.primary.hasEnded() {
			continue
		}
		st, err := c.Status(ctx)
		if err != nil {
			return 0, err
		}
		for _, g := range st.Groups {
			if g.Journal != nil {
				sum += g.Journal.Bytes
			}
		}
	}
	return sum, nil
}

// tail returns the end of a daemon's log.
func (s *repld) tail(place int) string {
	b, err := os.ReadFile(s.states[place] + ".log")
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

func (s *repld) stop() error {
	s.primary.terminate()
	s.standby.terminate()
	for _, c := range s.clients {
		c.Close()
	}
	for _, f := range s.logs {
		f.Close()
	}
	return nil
}
