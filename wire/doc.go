// Package wire carries messages and streams of bytes between two paired nodes. On
// the data's way, watch → capture → chunker → journal → ship ══wire══▶ ship →
// journal → apply, it is the double line: it belongs to step 5 of 6 and knows
// nothing of trees, logs or barriers beyond the numbers that its messages carry.
//
// # Keys
//
// The transport is QUIC version 1 (RFC 9000) with TLS 1.3, ALPN "repld/1", no
// session resumption, no 0-RTT. Each node has one Ed25519 key ([Identity]) and
// proves it by a self-signed certificate of which only the key is looked at. Both
// sides pin the other's key by its [Fingerprint], SHA-256 of the
// SubjectPublicKeyInfo. A listener refuses other keys inside the TLS handshake;
// only while an invitation is open ([Invites]) they get as far as Hello and Join,
// and no further.
//
// A join token is "repld1x" and then, in lower-case base32 without padding,
//
//	 0  8  expires, seconds since 1970, big-endian
//	 8 32  fingerprint of the inviting node's key
//	40 16  secret
//	56  n  address, host:port, at most 255 bytes
//	 …  4  CRC-32C of all before, big-endian
//
// The inviting node stores SHA-256 of the secret, never the secret.
//
// # Conversation
//
//	dialer                               listener
//	opens the control stream
//	Hello ───────────────────────────▶
//	      ◀─────────────────────────── Hello
//	both take the highest wire format that both speak, or refuse
//	[Join ───────────────────────────▶
//	      ◀─────────────────────────── JoinReply]
//
// Two nodes have one connection for the pair itself, on which they tell each other
// what they are (NodeState), and one for each consistency group, so that a group
// that can't go on holds up no other; Hello says which it is.
//
// After that both sides send and receive on the control stream as they like, and
// either opens further streams, each of which begins with a message that says what
// it is for.
//
// # Frames
//
// A message is framed as
//
//	0 2  type, big-endian ([Type])
//	2 4  length of the body, big-endian
//	6 …  body: the protobuf message of the type's name in wirepb/wire.proto
//
// Each type has a limit of its own for its body (4 KiB for most, 1 MiB and a
// little for ManifestRecords), which is checked before anything is allocated.
// Block, SpoolBlock, SeedBlock and FetchedChunk are followed by as many raw bytes as
// they say. Unknown fields of a body are ignored, unknown types are an error: both are
// added only with a new wire format, but for fields that may be ignored, and types that
// only a node gets which has asked for them with such a field (those of databases). Hello and the frame
// itself stay as they are in all formats of "repld/1".
//
// A connection is closed with a [Code] as QUIC's application error code and a
// reason of "text" or "text\nhint" in UTF-8, at most 901 bytes.
//
// # Invariants
//
//   - Every message that is handed out has passed its type's checks; lengths that
//     it announces are within their limits. Digests are not checked here.
//   - After an error that isn't a context's or a deadline's, a stream or the control
//     stream is of no more use. What a sender has written may or may not have
//     arrived: sessions resume by what the receiver says it has.
//   - A message that breaks the rules closes the connection ([CodeBadMessage]) on
//     the control stream, and is an error of the stream elsewhere.
//
// # Bounds
//
// Unread data takes at most LinkOptions.ConnectionWindow (32 MiB) of the receiver's
// memory per connection, LinkOptions.StreamWindow (4 MiB) of that per stream: up to
// seven streams may stand unread without holding up the control stream. The sender keeps what was not acknowledged: at most the
// peer's window, and at most 20,000 packets of 1,452 bytes (28 MiB) by quic-go's
// own limit. Socket buffers take up to 7 MiB each way, of the kernel's memory, and
// 256 KiB of this process, from which packets that came in one piece are cut.
// At most 64 handshakes are under way, 8 from one address; from the eighth
// on, addresses must prove themselves first, so that a flood with forged addresses
// keeps nothing in memory.
//
// A dead peer is noticed within LinkOptions.IdleTimeout + KeepAlive, 5 s as they
// are by default; one that was killed and has started again at once, by a
// stateless reset, as soon as something is sent to it.
//
// # Speed
//
// BenchmarkLog over loopback, on two cores of a Xeon server, Go 1.26: 700 MB/s of
// payload with both ends in one process, 450 MB/s in two; four streams are no
// faster than one, as a connection's packets are made by one goroutine. That the
// kernel hands packets over in pieces of up to 20 KiB (UDP_SEGMENT, and UDP_GRO on
// the other side) brought 20 % of that. The rest is the making and taking apart
// of packets of 1,452 bytes, quic-go's upper limit also where the path takes more.
// Neither windows from 1 to 32 MiB nor larger first packets change that; windows
// matter on long paths.
//
// # Concurrency
//
// [Listener] and [Conn] may be used by any number of goroutines, though messages
// are then received by whoever comes first. A [Stream] has one sender and one
// receiver at a time. [Listen] and [Dial] start goroutines of their own, which end
// with Close.
//
// # What it does not promise
//
// Nothing is sent again on a new connection; there is no redial (package ship does
// that). Streams are not ordered among each other nor with the control stream.
// Whether the peer's role and epoch are acceptable, the caller decides after Hello.
// That an address is reachable is known only once somebody answers: UDP gives no
// "connection refused".
package wire
