package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"repld/role"
)

// TestPatienceEndsWithTheDaemon: a timer that is over while the daemon ends is waited for,
// and one that is over later does nothing: the state is another process's by then.
func TestPatienceEndsWithTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &roles{over: make(chan struct{}), driver: role.NewDriver(role.Options{})}
		goOn, told := make(chan struct{}), false
		r.after(time.Second, func() { <-goOn; told = true })
		r.after(time.Minute, func() { t.Error("a timer does something after the daemon has ended") })
		<-time.After(2 * time.Second)
		ctx, end := context.WithCancel(t.Context())
		end()
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		<-r.over
		synctest.Wait()
		select {
		case <-ended:
			t.Error("the daemon has ended before what a timer does")
		default:
		}
		close(goOn)
		if err := <-ended; err != nil || !told {
			t.Errorf("ended with %v, told: %v", err, told)
		}
		<-time.After(2 * time.Minute)
	})
}
