package pairtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// Order is what a load in a process of its own is told, by a line of JSON.
type Order struct {
	Postgres, MariaDB string // connection string, or
	Redis             string // path of the socket; one of them
	Dir               string // as in [Options]
	Seed              uint64
	Writers, First    int
	Keep              int64
	Most              int
	Every             time.Duration
}

func (o Order) database() (Database, error) {
	switch {
	case o.Postgres != "" && o.MariaDB+o.Redis == "":
		return Postgres{DSN: o.Postgres}, nil
	case o.MariaDB != "" && o.Postgres+o.Redis == "":
		return MariaDB{DSN: o.MariaDB}, nil
	case o.Redis != "" && o.Postgres+o.MariaDB == "":
		return Redis{Socket: o.Redis}, nil
	}
	return nil, errors.New("want the connection string of one database")
}

// State is how far a load is.
type State struct {
	Begun, Done []int64 // operations of each writer
	Files, Rows int64   // that were written and removed
	Failed      string  // what interrupted a writer; "": nothing
}

// Serve is the program of a [Process]: it starts the load of the order that it reads,
// answers each further line with a line of the [State], and ends with its input, once
// the writers have finished what they are doing.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	return serve(ctx, in, out, Order.database)
}

func serve(ctx context.Context, in io.Reader, out io.Writer, open func(Order) (Database, error)) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.Join(errors.New("there is no order"), lines.Err())
	}
	var o Order
	if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
		return err
	}
	database, err := open(o)
	if err != nil {
		return err
	}
	l, err := Start(ctx, Options{Dir: o.Dir, Database: database, Seed: o.Seed, Writers: o.Writers, First: o.First, Keep: o.Keep, Most: o.Most, Every: o.Every})
	if err != nil {
		return err
	}
	tell := json.NewEncoder(out)
	for {
		more := lines.Scan()
		if !more {
			_ = l.Stop() // it is told with the state
		}
		s := State{Begun: l.Begun(), Done: l.Done()}
		s.Files, s.Rows = l.Changes()
		if err := l.Err(); err != nil {
			s.Failed = err.Error()
		}
		if err := tell.Encode(s); err != nil || !more {
			return errors.Join(err, lines.Err())
		}
	}
}

// Process is a load in a process of its own, which can be frozen and killed.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu    sync.Mutex // of everything below
	out   *json.Decoder
	last  State
	ended bool
}

// StartProcess starts cmd, whose program calls [Serve].
func StartProcess(cmd *exec.Cmd, o Order) (*Process, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, in: in, out: json.NewDecoder(out)}
	if err := json.NewEncoder(in).Encode(o); err != nil {
		p.Kill()
		return nil, err
	}
	if _, err := p.State(); err != nil { // it has begun
		p.Kill()
		return nil, err
	}
	return p, nil
}

// State asks how far the load is; of one that has ended it returns what is known.
func (p *Process) State() (State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return p.last, nil
	}
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return p.last, fmt.Errorf("the load doesn't take a question: %w", err)
	}
	return p.read()
}

func (p *Process) read() (State, error) {
	var s State
	if err := p.out.Decode(&s); err != nil {
		return p.last, fmt.Errorf("the load doesn't tell its state: %w", err)
	}
	p.last = s
	return s, nil
}

// Stop lets the writers finish what they are doing, and returns the first error that
// interrupted one.
func (p *Process) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.ended = true
	err := p.in.Close()
	s, readErr := p.read()
	if err = errors.Join(err, readErr, p.cmd.Wait()); err == nil && s.Failed != "" {
		err = errors.New(s.Failed)
	}
	return err
}

// Kill ends the writers wherever they are.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ended = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
	}
}
