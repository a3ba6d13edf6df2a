package catalog

import (
	"time"

	"repld/change"
)

// Node is what the catalog knows of one node, without its content list.
type Node struct {
	Kind change.Kind
	Meta change.Meta
	// Size is the sum of the lengths of the content's references, in bytes.
	Size uint64
	// Refs is the number of references in the content list.
	Refs uint64
	// Content is the digest of the content list; zero if that is empty. Two lists
	// that differ only in how holes are cut have the same digest.
	Content change.Digest
	// Digest is over kind, metadata, number of names and content, of a directory
	// over everything below it. Portable is the same over what an unprivileged
	// standby can hold; zero for device nodes. All three digests are those of the
	// last [Tx.Seal].
	Digest, Portable change.Digest
	// Links is the number of names.
	Links uint32
	// Local describes this machine's object. It is not replicated and in no digest.
	Local Local
}

// Local is a snapshot of the object that stands for a node on this machine, to
// be compared with what the kernel says now. On a primary it was taken when the
// node was captured, on a standby after the node was published. The zero Local
// stands for "not known" and equals nothing.
type Local struct {
	// Tree is the root node of the tree that holds the object, the first half of
	// the key of [Tx.ByObject]. Zero lets [Tx.SetLocal] find it by the node's names.
	Tree change.NodeID
	change.ObjectID
	Ctime  change.Time
	Mtime  change.Time
	Size   uint64 // bytes
	Blocks uint64 // of 512 bytes
	Nlink  uint32
	// Racy says that the object could have changed after the snapshot without
	// showing it in a time stamp (see [change.Stat.Racy]): it must be read again.
	Racy bool
	// Captured is the wall clock when the snapshot was taken.
	Captured change.Time
}

// LocalOf returns what st, taken at the wall clock time at, says about an object
// of the tree with the given root.
func LocalOf(tree change.NodeID, st *change.Stat, at time.Time) Local {
	return Local{
		Tree: tree, ObjectID: st.ID, Ctime: st.Ctime, Mtime: st.Mtime, Size: st.Size,
		Blocks: st.Blocks, Nlink: st.Nlink, Racy: st.Racy(at), Captured: change.TimeOf(at),
	}
}

// Known reports whether l describes an object at all.
func (l *Local) Known() bool { return l.ObjectID != change.ObjectID{} }

// Same reports whether st shows the very version of the object that l describes.
// It is false if l can't be relied on.
func (l Local) Same(st *change.Stat) bool {
	return l.Known() && !l.Racy && l.ObjectID == st.ID && l.Ctime == st.Ctime && l.Mtime == st.Mtime &&
		l.Size == st.Size && l.Blocks == st.Blocks && l.Nlink == st.Nlink
}
