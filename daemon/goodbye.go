package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"repld/control"
)

// askGoodbye tells the peer that this node stops on purpose. It is a question, so that
// it has arrived before the connection ends.
const askGoodbye = "goodbye"

const (
	// goodbyeFor is how long a node that served may be away then: an upgrade, a reboot.
	goodbyeFor = 2 * time.Minute
	// goodbyeWithin bounds how long a stop waits for the peer's answer.
	goodbyeWithin = time.Second
)

type goodbye struct {
	For control.Seconds `json:"for_seconds"`
}

// sayGoodbye tells the peer that the silence of this node, which serves, is no outage:
// its services run on without the daemon, or are about to be back with it.
func (n *node) sayGoodbye() {
	if !n.roles.policy.Coordinated || !n.roles.now().Serves() || n.opts.abrupt {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbyeWithin)
	defer cancel()
	if err := n.askPeer(ctx, askGoodbye, goodbye{control.Seconds(goodbyeFor)}, nil); err != nil {
		n.logger.Warn("the peer isn't told that this node stops on purpose", "error", err)
	}
}

// hearGoodbye notes that the peer goes on purpose; see [lease.Silence].
func (r *roles) hearGoodbye(body []byte) error {
	var g goodbye
	if err := json.Unmarshal(body, &g); err != nil {
		return fmt.Errorf("the peer's %s: %w", askGoodbye, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = r.clock.Mono() + min(g.For.Duration(), goodbyeFor)
	return nil
}
