package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/wire"
)

// serveManifest sends the catalog as records, from one snapshot, and lets the log
// flow from the position where the snapshot stands.
func (s *sending) serveManifest(ctx context.Context, stream *wire.Stream) error {
	if err := s.opts.Capture.Ready(ctx); err != nil {
		return err
	}
	var at change.LogPosition
	err := s.opts.Catalog.View(func(tx *catalog.Tx) error {
		start := &wire.ManifestStart{}
		var err error
		if start.Position, err = s.opts.Position(tx); err != nil {
			return err
		}
		at = start.Position
		for id, n := range tx.Nodes(0) {
			if id == change.GroupNode {
				continue
			}
			start.Nodes++
			if n.Kind != change.KindDir {
				start.Files++
				start.Bytes += n.Size
			}
		}
		if err := stream.Send(start); err != nil {
			return err
		}
		out := &manifestWriter{stream: stream, pace: func(n int) error { return s.yield(ctx, n) }}
		if err := out.nodes(ctx, tx); err != nil {
			return err
		}
		if err := out.late(ctx, tx); err != nil {
			return err
		}
		return out.flush()
	})
	if err != nil {
		return err
	}
	if err := stream.Send(&wire.ManifestEnd{}); err != nil {
		return err
	}
	// The standby begins here: what the log holds before, nobody will ask for.
	if err := s.opts.Log.Free(min(at.Offset, s.opts.Log.Durable().Offset)); err != nil {
		return err
	}
	s.begin(at)
	s.opts.Capture.Demand()
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	// What was written must arrive before the stream is given up.
	_, _ = stream.Receive()
	return nil
}

// manifestWriter packs records into messages.
type manifestWriter struct {
	stream *wire.Stream
	pace   func(bytes int) error
	buf    []byte
	one    []byte

	// waiting says that there are nodes whose names have to wait.
	waiting bool
}

// nodes writes every node with its content and its names, so that the receiver is done
// with it, but for the names of nodes that lie in a directory which is younger than they.
func (w *manifestWriter) nodes(ctx context.Context, tx *catalog.Tx) error {
	for id, n := range tx.Nodes(0) {
		if id == change.GroupNode {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.add(&change.Put{Node: id, Kind: n.Kind, Meta: n.Meta}); err != nil {
			return err
		}
		if n.Refs > 0 {
			if err := w.content(tx, id); err != nil {
				return err
			}
		}
		if younger(tx, id) {
			w.waiting = true
			continue
		}
		if err := w.names(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// younger reports whether a node has a name in a directory that comes after it.
func younger(tx *catalog.Tx, id change.NodeID) bool {
	for parent := range tx.Names(id) {
		if parent > id {
			return true
		}
	}
	return false
}

// names writes the names of a node, all at once: which is the first stays what it is.
func (w *manifestWriter) names(tx *catalog.Tx, id change.NodeID) error {
	for parent, name := range tx.Names(id) {
		if err := w.add(&change.Link{Parent: parent, Name: name, Node: id}); err != nil {
			return err
		}
	}
	return nil
}

func (w *manifestWriter) content(tx *catalog.Tx, id change.NodeID) error {
	splice := &change.Splice{Node: id}
	for ref := range tx.Refs(id, 0) {
		splice.Refs = append(splice.Refs, ref.ChunkRef)
		if len(splice.Refs) < change.SpliceMax {
			continue
		}
		if err := w.add(splice); err != nil {
			return err
		}
		splice = &change.Splice{Node: id, At: splice.At + uint64(len(splice.Refs))}
	}
	if len(splice.Refs) == 0 {
		return nil
	}
	return w.add(splice)
}

// late writes the names that nodes has left, now that all directories are there.
func (w *manifestWriter) late(ctx context.Context, tx *catalog.Tx) error {
	if !w.waiting {
		return nil
	}
	for id := range tx.Nodes(0) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !younger(tx, id) {
			continue
		}
		if err := w.names(tx, id); err != nil {
			return err
		}
	}
	return nil
}

func (w *manifestWriter) add(rec change.Record) error {
	var err error
	if w.one, err = journal.AppendRecord(w.one[:0], rec); err != nil {
		return err
	}
	if len(w.buf)+len(w.one) > wire.MaxManifestRecords {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.buf = append(w.buf, w.one...)
	return nil
}

func (w *manifestWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.pace(len(w.buf)); err != nil {
		return err
	}
	err := w.stream.Send(&wire.ManifestRecords{Records: w.buf})
	w.buf = w.buf[:0]
	return err
}

// Manifest is a base's list of nodes and names, as it arrives. Records ends with
// an error if the stream breaks; it can be read once.
type Manifest struct {
	Position            change.LogPosition // where the log goes on
	Nodes, Files, Bytes uint64

	stream *wire.Stream
}

// openManifest asks for a manifest.
func openManifest(ctx context.Context, conn *wire.Conn, group string) (*Manifest, error) {
	stream, err := conn.OpenStream(ctx, &wire.ManifestStream{Group: group})
	if err != nil {
		return nil, err
	}
	msg, err := stream.Receive()
	if err != nil {
		stream.Cancel()
		return nil, err
	}
	start, ok := msg.(*wire.ManifestStart)
	if !ok {
		stream.Cancel()
		return nil, fmt.Errorf("the primary began a manifest with %v", msg.Type())
	}
	return &Manifest{Position: start.Position, Nodes: start.Nodes, Files: start.Files, Bytes: start.Bytes, stream: stream}, nil
}

// Records yields the manifest's records; after an error nothing follows.
func (m *Manifest) Records() iter.Seq2[change.Record, error] {
	return func(yield func(change.Record, error) bool) {
		for {
			msg, err := m.stream.Receive()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				yield(nil, fmt.Errorf("receive the manifest: %w", err))
				return
			}
			switch batch := msg.(type) {
			case *wire.ManifestEnd:
				return
			case *wire.ManifestRecords:
				if !yieldRecords(batch.Records, yield) {
					return
				}
			default:
				yield(nil, fmt.Errorf("the primary sent %v in a manifest", msg.Type()))
				return
			}
		}
	}
}

func yieldRecords(b []byte, yield func(change.Record, error) bool) bool {
	for len(b) > 0 {
		rec, n, err := journal.DecodeRecord(b)
		if err != nil {
			yield(nil, fmt.Errorf("manifest: %w", err))
			return false
		}
		if !yield(rec, nil) {
			return false
		}
		b = b[n:]
	}
	return true
}

func (m *Manifest) close() { m.stream.Cancel() }
