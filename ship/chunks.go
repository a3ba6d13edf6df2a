package ship

import (
	"context"
	"errors"
	"io"
	"log/slog"

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
				if h, ok := r.place(tx, node, digest, hint); ok {
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

func (r *chunkReader) place(tx *catalog.Tx, node change.NodeID, digest change.Digest, hint uint64) (holder, bool) {
	name, path, ok := tx.Path(node)
	if !ok {
		return holder{}, false
	}
	t := 0
	for t < len(r.names) && r.names[t] != name {
		t++
	}
	if t == len(r.names) {
		return holder{}, false
	}
	ref, ok := tx.RefAt(node, hint)
	if !ok || ref.Digest != digest {
		offset, found := tx.FindRef(node, digest)
		if !found {
			return holder{}, false
		}
		if ref, ok = tx.RefAt(node, offset); !ok {
			return holder{}, false
		}
	}
	return holder{tree: t, path: path, offset: int64(ref.Offset), length: int(ref.Length)}, true
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
	buf := make([]byte, change.ChunkMax) // encoded chunks are shorter than their data
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
		places, err := reader.locate(request.Digests)
		if err != nil {
			return err
		}
		for i, digest := range request.Digests {
			data, err := reader.read(digest, places[i])
			if err != nil {
				return err
			}
			if err := s.sendChunk(ctx, stream, digest, data, buf); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// sendChunk sends one chunk; nil data says that it is gone.
func (s *sending) sendChunk(ctx context.Context, stream *wire.Stream, digest change.Digest, data, buf []byte) error {
	if data == nil {
		return stream.Send(&wire.FetchedChunk{Digest: digest, Gone: true})
	}
	codec, encoded := journal.EncodeChunk(buf, data)
	header := &wire.FetchedChunk{Digest: digest, Codec: codec, RawLength: uint32(len(data)), Length: uint32(len(encoded))}
	if err := s.pace(ctx, len(encoded)); err != nil {
		return err
	}
	if err := stream.Send(header); err != nil {
		return err
	}
	_, err := stream.Write(encoded)
	s.chunksSent.Add(1)
	s.bytesSent.Add(uint64(len(encoded)))
	s.bytesBefore.Add(uint64(len(data)))
	return err
}
