package catalog

import (
	"encoding/binary"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"repld/change"
	"repld/durable/boltproof"
)

// A Tx is one transaction: a consistent view of the catalog, and the changes
// made in it. It is valid until the function that got it returns, and not for
// concurrent use. A catalog found damaged while an iterator runs ends the
// iteration; the transaction then fails with [ErrDamaged].
type Tx struct {
	store    *bbolt.Tx
	overlay  bool
	writable bool
	err      error             // damage found where no error could be returned
	held     *boltproof.Ledger // what the file holds, of writable transactions

	names, nodes, links, refs, chunks, objects, pages     *table
	dirty, stale, orphans, moved, totals, barriers, state *table

	cache  map[change.NodeID]*record // decoded nodes, of writable transactions
	edited map[change.NodeID]*record // those of cache that must be written
	fresh  map[change.Digest]int     // live pending keys of chunks, by digest
	above  map[change.NodeID]step    // of directories, where nothing changes: see up
	free   *bool                     // whether the base may change, once known
	sums   totals
	summed bool
	hash   hashes
	buf    []byte
}

// maxCached bounds the decoded nodes of a transaction. Tests make it small.
var maxCached = 8192

// Buckets of the file.
var (
	bucketMeta = []byte("meta")
	bucketBase = []byte("base")
	bucketNext = []byte("next")
	keyFormat  = []byte("format")
)

// tableNames are the buckets inside base and next, in the order in which an
// overlay is merged: state last, so that what it says holds for all the rest.
var tableNames = [...]string{
	"names", "nodes", "links", "refs", "chunks", "objects", "pages",
	"dirty", "stale", "orphans", "moved", "totals", "barriers", "state",
}

// fill is how full bbolt leaves a page that it splits. Keys of these tables
// arrive mostly in ascending order.
var fill = map[string]float64{"names": 0.9, "nodes": 0.9, "objects": 0.7, "refs": 0.9, "pages": 0.9}

func newTx(store *bbolt.Tx, overlay, writable bool) (*Tx, error) {
	tx := &Tx{store: store, overlay: overlay, writable: writable}
	if writable {
		tx.cache = make(map[change.NodeID]*record)
		tx.edited = make(map[change.NodeID]*record)
		tx.fresh = make(map[change.Digest]int)
		var err error
		if tx.held, err = boltproof.Begin(store); err != nil {
			return nil, unproven(err)
		}
	}
	places := [...]**table{
		&tx.names, &tx.nodes, &tx.links, &tx.refs, &tx.chunks, &tx.objects, &tx.pages,
		&tx.dirty, &tx.stale, &tx.orphans, &tx.moved, &tx.totals, &tx.barriers, &tx.state,
	}
	for i, name := range tableNames {
		t, err := tx.open(name)
		if err != nil {
			return nil, err
		}
		*places[i] = t
	}
	return tx, nil
}

func (tx *Tx) open(name string) (*table, error) {
	t := &table{name: name, overlay: tx.overlay, writable: tx.writable}
	base, next := tx.store.Bucket(bucketBase), tx.store.Bucket(bucketNext)
	if base == nil || next == nil {
		return nil, damagedf("a bucket is missing")
	}
	t.base, t.delta = base.Bucket([]byte(name)), next.Bucket([]byte(name))
	if !tx.writable {
		return t, nil
	}
	t.pending = make(map[string][]byte)
	target, parent, in := &t.base, base, bucketBase
	if tx.overlay {
		target, parent, in = &t.delta, next, bucketNext
	}
	t.sum = tx.held.Sum(pathOf(in, name))
	if *target == nil {
		b, err := parent.CreateBucket([]byte(name))
		if err != nil {
			return nil, err
		}
		*target = b
	}
	if f, ok := fill[name]; ok {
		(*target).FillPercent = f
	}
	return t, nil
}

// pathOf names a table's bucket as [boltproof] does.
func pathOf(in []byte, name string) string { return string(in) + "/" + name }

func (tx *Tx) tables() []*table {
	return []*table{
		tx.names, tx.nodes, tx.links, tx.refs, tx.chunks, tx.objects, tx.pages,
		tx.dirty, tx.stale, tx.orphans, tx.moved, tx.totals, tx.barriers, tx.state,
	}
}

// finish ends the transaction's function: it writes what waits and returns the
// first error that had no other way out.
func (tx *Tx) finish() error {
	if tx.writable && tx.err == nil {
		tx.flushNodes()
		tx.saveTotals()
		for _, t := range tx.tables() {
			t.flush()
			if t.err != nil && tx.err == nil {
				tx.err = t.err
			}
		}
		if tx.err == nil {
			tx.err = tx.held.Save()
		}
	}
	return tx.err
}

// fail remembers err, unless there is one already.
func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// mayChange reports why this transaction can't change the graph.
func (tx *Tx) mayChange() error {
	if !tx.writable {
		return ErrReadOnly
	}
	if tx.err != nil {
		return tx.err
	}
	if tx.overlay {
		return nil
	}
	if tx.free == nil {
		free := true
		for _, t := range tx.tables() {
			free = free && isEmpty(t.delta)
		}
		tx.free = &free
	}
	if !*tx.free {
		return ErrNextPending
	}
	return nil
}

func isEmpty(b *bbolt.Bucket) bool {
	if b == nil {
		return true
	}
	k, _ := b.Cursor().First()
	return k == nil
}

// load returns the record of a node, nil if there is none. In a writable
// transaction everybody gets the same record, until trim.
func (tx *Tx) load(id change.NodeID) *record {
	if r, ok := tx.cache[id]; ok {
		if r.gone {
			return nil
		}
		return r
	}
	v := tx.nodes.get(nodeKey(id))
	var r *record
	switch {
	case v != nil:
		var err error
		if r, err = decodeRecord(v); err != nil {
			tx.fail(damagedf("node %d: %v", id, err))
			return nil
		}
	case id == change.GroupNode:
		r = &record{kind: change.KindDir, meta: emptyMeta}
	default:
		return nil
	}
	if tx.writable {
		tx.cache[id] = r
	}
	return r
}

// must is load for a node that others refer to.
func (tx *Tx) must(id change.NodeID) (*record, error) {
	r := tx.load(id)
	if r == nil {
		tx.fail(damagedf("node %d is missing", id))
		return nil, tx.err
	}
	return r, nil
}

// edit marks the record of a node as changed.
func (tx *Tx) edit(id change.NodeID, r *record) {
	tx.cache[id] = r
	tx.edited[id] = r
}

// trim forgets decoded nodes when they have become many. No record may be held
// across it.
func (tx *Tx) trim() {
	if len(tx.cache) > maxCached {
		tx.flushNodes()
		clear(tx.cache)
	}
}

// Trim bounds what a transaction remembers of the nodes that were looked at in it.
// Changes do so by themselves; who looks at a great many nodes and changes few of them
// calls it between them.
func (tx *Tx) Trim() { tx.trim() }

// flushNodes brings the digests of edited nodes (but directories) up to date and
// writes the nodes into their table.
func (tx *Tx) flushNodes() {
	if len(tx.edited) == 0 {
		return
	}
	tx.nodes.flushes++
	for _, id := range slices.Sorted(maps.Keys(tx.edited)) {
		r := tx.edited[id]
		if r.gone {
			tx.nodes.write(nodeKey(id), nil)
			delete(tx.cache, id)
			continue
		}
		tx.settle(id, r)
		tx.nodes.write(nodeKey(id), r.append(nil))
	}
	clear(tx.edited)
}

func nodeKey(id change.NodeID) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

func nameKey(parent change.NodeID, name string) []byte {
	key := make([]byte, 8, 8+len(name))
	binary.BigEndian.PutUint64(key, uint64(parent))
	return append(key, name...)
}

func pairKey(a change.NodeID, b uint64) []byte {
	return binary.BigEndian.AppendUint64(nodeKey(a), b)
}

func nodeOf(b []byte) change.NodeID { return change.NodeID(binary.BigEndian.Uint64(b)) }

// present is the value of keys that say all by being there.
var present = []byte{1}
