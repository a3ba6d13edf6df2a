package capture

import (
	"fmt"

	"repld/change"
	"repld/journal"
	"repld/journal/catalog"
)

// commitEvery bounds the records of one catalog transaction, and with it the
// memory that it takes: about 1 KiB for each. Ten references count as a record.
const (
	commitEvery   = 8192
	refsPerRecord = 10
	// scanCommits is how many times as many there are in the first scan, where
	// nobody waits for what was captured and each commit writes half the catalog anew.
	scanCommits = 3
)

// Keys of the catalog's clear-text state that belong to capture.
const (
	stateScanned = "capture.scanned" // "1" once the first scan is complete
	stateRootID  = "capture.root."   // + tree name: identity of the tree's root
	stateBootID  = "capture.boot"    // boot id at the last commit
	// "1" while nodes without a name are being taken away
	stateCollecting = "capture.collecting"
	statePosition   = "capture.position" // log position that the catalog stands at
)

// sink writes records to the log and to the catalog, in one order.
type sink struct {
	log     *journal.Log
	catalog *catalog.Catalog
	room    func() bool // whether chunks may carry data

	// logging is false during the first scan of a tree: the catalog alone is
	// written then, and a standby gets it as a base.
	logging bool

	tx       *catalog.Tx // open between begin and commit
	pending  int         // records since the last commit
	unlooked int         // bytes written since the room on the disk was looked at
	behind   bool        // a commit failed: the log may hold what the catalog lacks
	buf      []byte      // scratch for encoded chunks, which are shorter than their data

	chunks, deduplicated  uint64 // chunks written with data, and known ones
	rawBytes, storedBytes uint64 // of chunks written, before and after compression
}

// begin makes sure that a transaction is open and returns it.
func (s *sink) begin() (*catalog.Tx, error) {
	if s.tx == nil {
		tx, err := s.catalog.Begin()
		if err != nil {
			return nil, err
		}
		s.tx, s.pending = tx, 0
	}
	return s.tx, nil
}

// emit appends rec to the log and applies it to the catalog.
func (s *sink) emit(rec change.Record) error {
	if s.logging {
		if _, err := s.log.Append(rec); err != nil {
			return err
		}
	}
	if err := s.tx.Apply(rec); err != nil {
		return fmt.Errorf("the catalog refused what was just captured: %w", err)
	}
	s.pending++
	if splice, ok := rec.(*change.Splice); ok {
		s.pending += (len(splice.Refs) + int(min(splice.Remove, change.SpliceMax))) / refsPerRecord
	}
	return nil
}

// chunk makes sure that the data of a chunk is known to whoever replays the log:
// it writes the data unless the catalog knows it, or the journal is full.
func (s *sink) chunk(digest change.Digest, data []byte) error {
	if !s.logging {
		return nil
	}
	if s.tx.Known(digest) {
		s.deduplicated++
		return nil
	}
	if !s.room() {
		return nil // by reference: the standby asks for it
	}
	codec, encoded := journal.EncodeChunk(s.buf, data)
	rec := &change.Chunk{Digest: digest, Codec: codec, RawLen: uint32(len(data)), Data: encoded}
	if _, err := s.log.Append(rec); err != nil {
		return err
	}
	s.chunks++
	s.rawBytes += uint64(len(data))
	s.storedBytes += uint64(len(rec.Data))
	s.unlooked += len(rec.Data)
	return nil
}

// full reports whether it is time to commit.
func (s *sink) full() bool {
	if !s.logging {
		return s.pending >= scanCommits*commitEvery
	}
	return s.pending >= commitEvery
}

// commit makes what was emitted durable, the log first. After an error only
// abandon may follow.
func (s *sink) commit() error {
	if s.tx == nil {
		return nil
	}
	tx := s.tx
	s.tx, s.behind = nil, true
	err := s.log.Sync()
	if err == nil {
		err = tx.Put(statePosition, encodePosition(s.log.End()))
	}
	if err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.behind = false
	return nil
}

// abandon drops what was emitted since the last commit.
func (s *sink) abandon() error {
	if s.tx == nil && !s.behind {
		return nil
	}
	if s.tx != nil {
		s.tx.Rollback()
	}
	s.tx = nil
	if err := restore(s.log, s.catalog); err != nil {
		return err
	}
	s.behind = false
	return nil
}

// restore cuts the log back to where the catalog stands, and begins a new
// incarnation there.
func restore(log *journal.Log, cat *catalog.Catalog) error {
	var stored []byte
	if err := cat.View(func(tx *catalog.Tx) error {
		stored = tx.Get(statePosition)
		return nil
	}); err != nil {
		return err
	}
	at := change.LogPosition{Offset: log.Start()}
	if stored != nil {
		var err error
		if at, err = decodePosition(stored); err != nil {
			return err
		}
	}
	if at.Offset > log.End().Offset {
		return fmt.Errorf("the log ends at %d and the catalog stands at %d: %w", log.End().Offset, at.Offset, ErrLogBehind)
	}
	if err := log.TruncateTo(at.Offset); err != nil {
		return err
	}
	if stored != nil && log.End().Chain != at.Chain {
		return fmt.Errorf("the log at %d is not the one that the catalog was written with: %w", at.Offset, ErrLogBehind)
	}
	return log.SetIncarnation(change.NewIncarnation())
}

// replace begins the log anew, empty, where the catalog stands. The catalog alone
// holds the whole state; nobody's log goes on there but that of who had it all.
func replace(log *journal.Log, cat *catalog.Catalog) error {
	var at change.LogPosition
	if err := cat.View(func(tx *catalog.Tx) (err error) {
		at, err = Position(tx)
		return err
	}); err != nil {
		return err
	}
	if err := log.Reset(at); err != nil {
		return err
	}
	return log.SetIncarnation(change.NewIncarnation())
}

// Position returns the log position at which the catalog of a transaction stands.
func Position(tx *catalog.Tx) (change.LogPosition, error) {
	stored := tx.Get(statePosition)
	if stored == nil {
		return change.LogPosition{}, ErrNotScanned
	}
	return decodePosition(stored)
}

func encodePosition(p change.LogPosition) []byte {
	b := append([]byte(nil), p.Incarnation[:]...)
	b = append(b, p.Chain[:]...)
	return fmt.Appendf(b, "%d", p.Offset)
}

func decodePosition(b []byte) (change.LogPosition, error) {
	var p change.LogPosition
	const head = len(p.Incarnation) + len(p.Chain)
	if len(b) <= head {
		return p, fmt.Errorf("stored log position has %d bytes", len(b))
	}
	copy(p.Incarnation[:], b)
	copy(p.Chain[:], b[len(p.Incarnation):])
	_, err := fmt.Sscanf(string(b[head:]), "%d", &p.Offset)
	return p, err
}
