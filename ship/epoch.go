package ship

import (
	"fmt"

	"repld/change"
	"repld/wire"
)

// sameEpoch refuses a session with a node that is in another epoch.
func sameEpoch(own change.Epoch, conn *wire.Conn) error {
	peer := conn.PeerHello()
	if own == 0 || peer.Epoch == own {
		return nil
	}
	return &wire.RefusedError{
		Code: wire.CodeBusy, Text: fmt.Sprintf("%s is in epoch %d, this node is in epoch %d: want both in one", peer.Node, peer.Epoch, own),
		Hint: "the node in the lower epoch follows, or is fenced, as soon as it hears of the higher one",
	}
}
