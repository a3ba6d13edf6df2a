package ship

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
	"repld/tree"
	"repld/wire"
)

// holder is a place in a tree where a chunk should be.
type holder struct {
	tree   int
	path   string
	offset int64
	length int
}

// chunkReader reads chunks out of the trees by digest. It is not safe for
// concurrent use.
type chunkReader struct {
	catalog *catalog.Catalog
	names   []string
	readers []*tree.Reader
	logger  *slog.Logger

	file *tree.File // the one read last: chunks are asked for in the order of files
	at   holder     // of file
	buf  []byte
}

func newChunkReader(cat *catalog.Catalog, trees []Tree, logger *slog.Logger) *chunkReader {
	r := &chunkReader{catalog: cat, logger: logger, buf: make([]byte, change.ChunkMax)}
	for _, t := range trees {
		r.names = append(r.names, t.Name)
		r.readers = append(r.readers, t.Root.NewReader())
	}
	return r
}

func (r *chunkReader) close() {
	r.forget()
	for _, rd := range r.readers {
		rd.Close()
	}
}

// forget drops open files and directories: they may have moved.
func (r *chunkReader) forget() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
	for _, rd := range r.readers {
		rd.Flush()
	}
}

// maxHolders bounds how many places are looked at for one chunk.
const maxHolders = 4

// locate finds where the chunks are, by the catalog.
func (r *chunkReader) locate(digests []change.Digest) ([][]holder, error) {
	found := make([][]holder, len(digests))
	err := r.catalog.View(func(tx *catalog.Tx) error {
		for i, digest := range digests {
			for node, hint := range tx.Holders(digest) {
				if h, _, ok := r.place(tx, node, digest, hint); ok {
					found[i] = append(found[i], h)
				}
				if len(found[i]) == maxHolders {
					break
				}
			}
		}
		return nil
	})
	return found, err
}

func (r *chunkReader) place(tx *catalog.Tx, node change.NodeID, digest change.Digest, hint uint64) (h holder, ref catalog.Ref, ok bool) {
	name, path, ok := tx.Path(node)
	if !ok {
		return h, ref, false
	}
	if h.tree = slices.Index(r.names, name); h.tree < 0 {
		return h, ref, false
	}
	ref, ok = findRef(tx, node, digest, hint)
	h.path, h.offset, h.length = path, int64(ref.Offset), int(ref.Length)
	return h, ref, ok
}

// findRef finds a chunk in a file, with a hint at its offset.
func findRef(tx *catalog.Tx, node change.NodeID, digest change.Digest, hint uint64) (catalog.Ref, bool) {
	if ref, ok := tx.RefAt(node, hint); ok && ref.Digest == digest {
		return ref, true
	}
	offset, ok := tx.FindRef(node, digest)
	if !ok {
		return catalog.Ref{}, false
	}
	return tx.RefAt(node, offset)
}

// guess finds one place for each chunk, by the catalog; of length 0 if there is
// none. Chunks are mostly asked for in the order of a file, so that those behind
// one that was looked up are taken from the same list.
func (r *chunkReader) guess(digests []change.Digest) ([]holder, error) {
	found := make([]holder, len(digests))
	err := r.catalog.View(func(tx *catalog.Tx) error {
		near := make(map[change.Digest]holder)
		for i, digest := range digests {
			if h, ok := near[digest]; ok {
				found[i] = h
				continue
			}
			for node, hint := range tx.Holders(digest) {
				h, ref, ok := r.place(tx, node, digest, hint)
				if !ok {
					continue
				}
				found[i] = h
				clear(near)
				r.follow(tx, node, ref.Index, len(digests)-i, h, near)
				break
			}
		}
		return nil
	})
	return found, err
}

// follow notes where n chunks of a file are, from reference number index on, in a
// file of which a holder is known.
func (r *chunkReader) follow(tx *catalog.Tx, node change.NodeID, index uint64, n int, h holder, near map[change.Digest]holder) {
	for ref := range tx.Refs(node, index) {
		if n--; n < 0 {
			return
		}
		h.offset, h.length = int64(ref.Offset), int(ref.Length)
		if !ref.Hole() {
			near[ref.Digest] = h
		}
	}
}

// readLikely returns what stands at h, unchecked, or if that can't be had the
// chunk from wherever it is.
func (r *chunkReader) readLikely(digest change.Digest, h holder) ([]byte, error) {
	if h.length > 0 {
		if data, err := r.readAt(h); err == nil {
			return data, nil
		}
	}
	places, err := r.locate([]change.Digest{digest})
	if err != nil {
		return nil, err
	}
	return r.read(digest, places[0])
}

// read returns the chunk from the first place that still has it, nil if none has. A
// file that can't be read is no reason to end the session, which would come to it
// again in every later one. The data is valid until the next call.
func (r *chunkReader) read(digest change.Digest, places []holder) ([]byte, error) {
	for _, h := range places {
		data, err := r.readAt(h)
		switch {
		case err == nil:
		case exhausted(err):
			return nil, err
		case tree.Vanished(err), errors.Is(err, io.EOF):
			continue
		default:
			r.logger.Warn("a chunk can't be read", "path", h.path, "offset", h.offset, "error", err)
			continue
		}
		if change.Digest(blake3.Sum256(data)) == digest {
			return data, nil
		}
	}
	return nil, nil
}

// exhausted reports whether err is a want of this process or machine that passes.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func (r *chunkReader) readAt(h holder) ([]byte, error) {
	if r.file == nil || r.at.tree != h.tree || r.at.path != h.path {
		if r.file != nil {
			r.file.Close()
			r.file = nil
		}
		f, err := r.readers[h.tree].OpenFile(h.path)
		if err != nil {
			return nil, err
		}
		r.file = f
	}
	r.at = h
	data := r.buf[:h.length]
	if _, err := r.file.ReadAt(data, h.offset); err != nil {
		return nil, err
	}
	return data, nil
}

// serveChunks answers the requests on one stream in order.
func (s *sending) serveChunks(ctx context.Context, stream *wire.Stream) error {
	reader := newChunkReader(s.opts.Catalog, s.opts.Trees, s.opts.Logger)
	defer reader.close()
	sender := s.newChunkSender(stream)
	for ctx.Err() == nil {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return stream.CloseWrite()
		}
		if err != nil {
			return err
		}
		request, ok := msg.(*wire.FetchRequest)
		if !ok {
			return errors.New("expected a request for chunks")
		}
		reader.forget()
		if err := answer(ctx, reader, request, sender); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func answer(ctx context.Context, reader *chunkReader, request *wire.FetchRequest, to *chunkSender) error {
	var places [][]holder
	var likely []holder
	var err error
	if request.Unchecked {
		likely, err = reader.guess(request.Digests)
	} else {
		places, err = reader.locate(request.Digests)
	}
	if err != nil {
		return err
	}
	for i, digest := range request.Digests {
		var data []byte
		if request.Unchecked {
			data, err = reader.readLikely(digest, likely[i])
		} else {
			data, err = reader.read(digest, places[i])
		}
		if err != nil {
			return err
		}
		if err := to.add(ctx, digest, data); err != nil {
			return err
		}
	}
	return to.flush(ctx)
}

// sendBatch is how many bytes of chunks go into one write, with the last of them.
const sendBatch = 256 << 10

// chunkSender sends chunks on one stream, several in one write.
type chunkSender struct {
	s       *sending
	stream  *wire.Stream
	encoded []byte // of one chunk: shorter than its data
	out     []byte
}

func (s *sending) newChunkSender(stream *wire.Stream) *chunkSender {
	return &chunkSender{s: s, stream: stream, encoded: make([]byte, change.ChunkMax), out: make([]byte, 0, sendBatch+change.ChunkMax+4<<10)}
}

// add sends one chunk; nil data says that it is gone.
func (c *chunkSender) add(ctx context.Context, digest change.Digest, data []byte) error {
	header := &wire.FetchedChunk{Digest: digest, Gone: true}
	var encoded []byte
	if data != nil {
		var codec change.Codec
		codec, encoded = journal.EncodeChunk(c.encoded, data)
		header = &wire.FetchedChunk{Digest: digest, Codec: codec, RawLength: uint32(len(data)), Length: uint32(len(encoded))}
		c.s.chunksSent.Add(1)
		c.s.bytesSent.Add(uint64(len(encoded)))
		c.s.bytesBefore.Add(uint64(len(data)))
	}
	var err error
	if c.out, err = wire.Append(c.out, header); err != nil {
		return err
	}
	if c.out = append(c.out, encoded...); len(c.out) < sendBatch {
		return nil
	}
	return c.flush(ctx)
}

// flush sends what add has kept.
func (c *chunkSender) flush(ctx context.Context) error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.s.pace(ctx, len(c.out)); err != nil {
		return err
	}
	_, err := c.stream.Write(c.out)
	c.out = c.out[:0]
	return err
}
