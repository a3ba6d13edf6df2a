package change

// Record is one entry of a group's log. Applied in order to the state at one
// barrier, the records up to the next barrier give the state at that one; between
// barriers the state means nothing. The set of types is closed.
type Record interface{ record() }

// Chunk carries the data of one chunk. It stands before the first record that
// refers to it, unless the receiver has the data already or can ask for it.
type Chunk struct {
	Digest Digest // of the decoded data
	Codec  Codec
	RawLen uint32 // length of the decoded data, 1 … ChunkMax
	Data   []byte // as encoded by Codec; for CodecRaw the data itself
}

// Put makes a node or replaces its metadata. The content stays as it is (empty,
// for a new node); a node never changes its kind.
type Put struct {
	Node NodeID
	Kind Kind
	Meta Meta
}

// Splice replaces the references [At, At+Remove) of a file's content list by
// Refs. Long lists take several.
type Splice struct {
	Node   NodeID
	At     uint64
	Remove uint64
	Refs   []ChunkRef // at most SpliceMax
}

// SpliceMax is the largest number of references in one [Splice].
const SpliceMax = 4096

// Link gives a node a name; what had that name before loses it.
type Link struct {
	Parent NodeID
	Name   string
	Node   NodeID
}

// Unlink takes a name away. A node that has no name left at the next barrier is
// gone, with everything below it that has no other name.
type Unlink struct {
	Parent NodeID
	Name   string
}

// Barrier ends a consistent cut. Chain is the log's chained digest up to this record.
type Barrier struct {
	Certificate
	Chain Digest
}

func (*Chunk) record()   {}
func (*Put) record()     {}
func (*Splice) record()  {}
func (*Link) record()    {}
func (*Unlink) record()  {}
func (*Barrier) record() {}
