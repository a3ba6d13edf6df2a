package ship

import (
	"errors"
	"math/rand/v2"
	"testing"

	"repld/change"
	"repld/wire"
)

// TestOtherEpoch: neither side takes anything from a node in another epoch, a lower or
// a higher one; nothing of its log arrives. The nodes of wiretest are in epoch 1.
func TestOtherEpoch(t *testing.T) {
	for _, own := range []change.Epoch{1, 0} {
		p := newPair(t, nil, func(s *SenderOptions, r *ReceiverOptions) { s.Epoch, r.Epoch = own, own })
		end := p.session()
		p.write(rand.New(rand.NewPCG(1, 1)), 3)
		p.awaitEqual()
		end()
	}
	refused := func(err error) bool {
		var r *wire.RefusedError
		return errors.As(err, &r) && r.Code == wire.CodeBusy && r.Hint != ""
	}
	for _, own := range []change.Epoch{2, 7} {
		p := newPair(t, nil, func(_ *SenderOptions, r *ReceiverOptions) { r.Epoch = own })
		p.write(rand.New(rand.NewPCG(1, 1)), 3)
		_, b := p.link.Connect(t)
		if err := p.receiver.Serve(t.Context(), b); !refused(err) {
			t.Errorf("a standby in epoch %d ended the session with %v", own, err)
		}
		p = newPair(t, nil, func(s *SenderOptions, _ *ReceiverOptions) { s.Epoch = own })
		a, _ := p.link.Connect(t)
		if err := p.sender.Serve(t.Context(), a); !refused(err) {
			t.Errorf("a primary in epoch %d ended the session with %v", own, err)
		}
		if end := p.to.End().Offset; end != 0 {
			t.Errorf("%d bytes of log were taken", end)
		}
	}
}
