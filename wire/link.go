package wire

import (
	"context"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// LinkOptions are what both ends of a connection may be told about the link.
type LinkOptions struct {
	// IdleTimeout is how long a peer may be silent until it counts as gone. A dead
	// peer is noticed after at most IdleTimeout + KeepAlive, or three probe
	// time-outs (RFC 9000 section 10.1) where the round trip is longer than that.
	// 0: 4 s. The smaller of both sides' values holds, but the peer's counts as at
	// least 5 s.
	IdleTimeout time.Duration
	// KeepAlive is how often an idle connection sends something. 0: 1 s; at most
	// half of IdleTimeout is used.
	KeepAlive time.Duration
	// HandshakeTimeout bounds the time from the first packet to the end of the
	// exchange of Hello. 0: 5 s.
	HandshakeTimeout time.Duration
	// StreamWindow is how many bytes a peer may send on one stream before this side
	// has read them. 0: 4 MiB, which at a round trip of 100 ms lets 40 MB/s through.
	StreamWindow uint64
	// ConnectionWindow is the same for all streams together, and so the bound of
	// what unread data takes of this node's memory. 0: 32 MiB. The control stream
	// needs a part of it: it stands still while ConnectionWindow / StreamWindow
	// streams are full because nobody reads them.
	ConnectionWindow uint64
	// Streams is how many streams the peer may have open at a time. 0: 64.
	Streams int
	// PacketSize is the size of the first packets in bytes, 1200 … 1452; the path's
	// real limit is found by probing. 0: 1280.
	PacketSize uint16
}

const (
	defaultIdleTimeout      = 4 * time.Second
	defaultKeepAlive        = time.Second
	defaultHandshake        = 5 * time.Second
	defaultStreamWindow     = 4 << 20
	defaultConnectionWindow = 32 << 20
	defaultStreams          = 64
	initialWindow           = 1 << 20
)

func (o LinkOptions) withDefaults() LinkOptions {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.IdleTimeout, defaultIdleTimeout)
	def(&o.KeepAlive, defaultKeepAlive)
	def(&o.HandshakeTimeout, defaultHandshake)
	if o.StreamWindow == 0 {
		o.StreamWindow = defaultStreamWindow
	}
	if o.ConnectionWindow == 0 {
		o.ConnectionWindow = defaultConnectionWindow
	}
	if o.Streams <= 0 {
		o.Streams = defaultStreams
	}
	return o
}

// config expects defaults to be filled in.
func (o LinkOptions) config() *quic.Config {
	// The connection's window is there in full from the start: it grows by being
	// read, and what is needed to go on reading, the one stream of several that the
	// others wait for, would not get through a small one that those have filled.
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           o.HandshakeTimeout,
		MaxIdleTimeout:                 o.IdleTimeout,
		KeepAlivePeriod:                o.KeepAlive,
		InitialStreamReceiveWindow:     min(initialWindow, o.StreamWindow),
		MaxStreamReceiveWindow:         o.StreamWindow,
		InitialConnectionReceiveWindow: o.ConnectionWindow,
		MaxConnectionReceiveWindow:     o.ConnectionWindow,
		MaxIncomingStreams:             int64(o.Streams),
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              o.PacketSize,
		Allow0RTT:                      false, // its data could be replayed
	}
}

// newTransport takes pc over. quic-go raises the socket's buffers to 7 MiB where
// the kernel allows it (past net.core.rmem_max with CAP_NET_ADMIN), and uses
// segmentation offload and batched reads where it finds them.
func newTransport(pc net.PacketConn, id *Identity) *quic.Transport {
	quietBuffers()
	// With a key that survives restarts the peer of a killed node learns at once
	// that its connection is gone (RFC 9000 section 10.3).
	reset := quic.StatelessResetKey(id.derive("stateless reset"))
	return &quic.Transport{Conn: coalesce(pc), ConnectionIDLength: 8, StatelessResetKey: &reset}
}

// quietBuffers keeps quic-go from writing to the standard logger when it can't
// raise a socket's buffers as far as it likes: that costs speed, nothing else.
var quietBuffers = sync.OnceFunc(func() { _ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") })

// aLongTimeAgo is a deadline that has passed.
var aLongTimeAgo = time.Unix(1, 0)

// withContext calls f and makes it return early when ctx ends, by a deadline in
// the past that setDeadline sets and takes back.
func withContext(ctx context.Context, setDeadline func(time.Time) error, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() == nil {
		return f()
	}
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(set)
		_ = setDeadline(aLongTimeAgo)
	})
	err := f()
	if !stop() {
		<-set
		_ = setDeadline(time.Time{})
		if err != nil && os.IsTimeout(err) {
			err = ctx.Err()
		}
	}
	return err
}
