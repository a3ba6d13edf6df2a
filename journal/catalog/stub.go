package catalog

import (
	"context"
	"errors"
	"iter"
	"time"

	"repld/change"
)

var errTodo = errors.New("not yet")

// Options says how to open a catalog.
type Options struct {
	Timeout time.Duration // how long to wait for another process's lock; 0 = 1 s
	MapSize int           // bytes of address space reserved; 0 = 16 GiB
	NoSync  bool          // for tests: commits aren't fsynced
}

// Catalog is an open catalog.
type Catalog struct{}

// Open opens the catalog at path and makes it if it isn't there.
func Open(path string, o Options) (*Catalog, error) { return nil, errTodo }

func (c *Catalog) Close() error                        { return errTodo }
func (c *Catalog) View(fn func(*Tx) error) error       { return errTodo }
func (c *Catalog) Update(fn func(*Tx) error) error     { return errTodo }
func (c *Catalog) ViewNext(fn func(*Tx) error) error   { return errTodo }
func (c *Catalog) UpdateNext(fn func(*Tx) error) error { return errTodo }
func (c *Catalog) MergeNext(ctx context.Context) error { return errTodo }
func (c *Catalog) DropNext() error                     { return errTodo }
func (c *Catalog) NextEmpty() (bool, error)            { return false, errTodo }

// Tx is a transaction.
type Tx struct{}

func (tx *Tx) Lookup(parent change.NodeID, name string) (change.NodeID, bool) { return 0, false }

// Children: names of a directory in byte order, from the first that is greater than after ("" = all).
func (tx *Tx) Children(parent change.NodeID, after string) iter.Seq2[string, change.NodeID] {
	return nil
}
func (tx *Tx) Names(id change.NodeID) iter.Seq2[change.NodeID, string] { return nil }
func (tx *Tx) Path(id change.NodeID) (tree, path string, ok bool)      { return "", "", false }

// TreeOf: root node of the tree of the node's first name.
func (tx *Tx) TreeOf(id change.NodeID) (change.NodeID, bool)                        { return 0, false }
func (tx *Tx) Node(id change.NodeID) (Node, bool, error)                            { return Node{}, false, errTodo }
func (tx *Tx) Local(id change.NodeID) (Local, bool, error)                          { return Local{}, false, errTodo } // cheap: metadata isn't decoded
func (tx *Tx) Nodes(after change.NodeID) iter.Seq2[change.NodeID, Node]             { return nil }                     // all, by id
func (tx *Tx) SetLocal(id change.NodeID, l Local) error                             { return errTodo }
func (tx *Tx) ByObject(tree change.NodeID, o change.ObjectID) (change.NodeID, bool) { return 0, false }
func (tx *Tx) NewNode() change.NodeID                                               { return 0 }

// Ref is one reference of a content list: its number, the byte of the file it starts at, and what it refers to.
type Ref struct {
	Index, Offset uint64
	change.ChunkRef
}

// Refs: the content list from reference number from on.
func (tx *Tx) Refs(id change.NodeID, from uint64) iter.Seq[Ref]         { return nil }
func (tx *Tx) RefAt(id change.NodeID, offset uint64) (Ref, bool)        { return Ref{}, false } // the reference that covers this byte
func (tx *Tx) Known(d change.Digest) bool                               { return false }
func (tx *Tx) Holders(d change.Digest) iter.Seq2[change.NodeID, uint64] { return nil } // offset is a hint
func (tx *Tx) FindRef(id change.NodeID, d change.Digest) (uint64, bool) { return 0, false }

// Apply; *change.Chunk is ignored; *change.Barrier collects, seals, compares with the certificate and stores it.
func (tx *Tx) Apply(rec change.Record) error { return errTodo }
func (tx *Tx) Collect() error                { return errTodo }

// CollectSome drops at most limit nodes; more says whether there is work left. For bounded transactions.
func (tx *Tx) CollectSome(limit int) (more bool, err error)                         { return false, errTodo }
func (tx *Tx) Seal() (tree, portable change.Digest, files, bytes uint64, err error) { return }

func (tx *Tx) Get(key string) []byte          { return nil }     // copy; nil = none
func (tx *Tx) Put(key string, v []byte) error { return errTodo } // nil or empty v deletes; overlay-aware like everything else

// BarrierState: how far a barrier has come on this machine.
type BarrierState uint8

const (
	BarrierCut      BarrierState = 1
	BarrierReceived BarrierState = 2
	BarrierApplied  BarrierState = 3
)

// StoredBarrier is a barrier as the catalog keeps it.
type StoredBarrier struct {
	change.Barrier
	End   change.LogPosition // after the barrier's record
	State BarrierState
}

func (tx *Tx) AddBarrier(b change.Barrier, end change.LogPosition, s BarrierState) error {
	return errTodo
}                                                                        // adds or replaces
func (tx *Tx) SetBarrierState(id change.BarrierID, s BarrierState) error { return errTodo }
func (tx *Tx) Barriers() iter.Seq[StoredBarrier]                         { return nil } // newest first
func (tx *Tx) Barrier(id change.BarrierID) (StoredBarrier, bool, error) {
	return StoredBarrier{}, false, errTodo
}
func (tx *Tx) PruneBarriers(keep int) error { return errTodo }

// NameChange: node 0 = none.
type NameChange struct {
	Parent        change.NodeID
	Name          string
	Before, After change.NodeID
}

// NodeChange: nil = none. Nodes of which only digests, names or Local changed are left out.
type NodeChange struct {
	ID            change.NodeID
	Before, After *Node
	Meta, Content bool // what differs (both true for new and gone nodes of that kind)
}

func (tx *Tx) ChangedNames() iter.Seq[NameChange] { return nil }
func (tx *Tx) ChangedNodes() iter.Seq[NodeChange] { return nil }

// Before gives a read-only view of the base in the same transaction.
func (tx *Tx) Before() *Tx { return nil }
