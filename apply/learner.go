package apply

import (
	"errors"
	"sync"

	"repld/tree"
)

// learner looks at what phase 2 has put into place, beside the putting: a rename
// holds a lock of the whole file system, so that several at once would gain
// nothing. Operations are handed over in groups, and are few at the end.
type learner struct {
	p     *publisher
	group []operation
	queue chan []operation
	done  sync.WaitGroup

	locals []localUpdate
	err    error
}

// learnGroup operations are handed over at a time.
const learnGroup = 64

// attachAll carries out phase 2.
func (p *publisher) attachAll() error {
	p.learner = &learner{p: p}
	defer func() { p.learner = nil }()
	return p.phase(bucketAttach, p.attach)
}

// add has the object at an operation's name recorded.
func (l *learner) add(o *operation) {
	l.group = append(l.group, *o)
	if len(l.group) < learnGroup {
		return
	}
	if l.queue == nil {
		l.queue = make(chan []operation, 4)
		l.done.Go(l.run)
	}
	l.queue <- l.group
	l.group = nil
}

func (l *learner) run() {
	for group := range l.queue {
		l.look(group)
	}
}

func (l *learner) look(group []operation) {
	for i := range group {
		o := &group[i]
		local, ok, err := l.p.look(o.node, tree.InTree(o.path), o.tree)
		if ok {
			l.locals = append(l.locals, local)
		}
		l.err = errors.Join(l.err, err)
	}
}

// learned takes over what the learner has found out, once it is done with all
// that it was given.
func (p *publisher) learned() error {
	l := p.learner
	if l == nil {
		return nil
	}
	if l.queue != nil {
		close(l.queue)
		l.done.Wait()
		l.queue = nil
	}
	l.look(l.group)
	p.locals = append(p.locals, l.locals...)
	err := l.err
	l.group, l.locals, l.err = nil, nil, nil
	return err
}
