package dblogtest

import "context"

// Task is a function that runs until it is stopped.
type Task struct {
	cancel context.CancelFunc
	done   chan error
}

// Start runs a function beside the test.
func Start(run func(context.Context) error) *Task {
	ctx, cancel := context.WithCancel(context.Background())
	k := &Task{cancel, make(chan error, 1)}
	go func() { k.done <- run(ctx) }()
	return k
}

// Stop ends the function's context and returns the function's error. It is called once, or
// Wait is.
func (k *Task) Stop() error {
	k.cancel()
	return <-k.done
}

// Wait returns the error of a function that ends by itself.
func (k *Task) Wait() error {
	defer k.cancel()
	return <-k.done
}
