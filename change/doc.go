// Package change is the vocabulary of repld: what a replicated tree consists of
// (nodes, names, metadata, chunks), what can happen to it (records), and when
// (barriers, epochs, log positions). Every other package speaks in these words.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship →
// apply, and imports the standard library only.
//
// # A tree as a file system has it
//
// A group is a graph of nodes and names. A [NodeID] names an object (a file, a
// directory, a symbolic link, …) for as long as the object exists, whatever it
// is called; a name is an edge (parent node, name) → node. Hard links are two
// edges to one node. Renaming a directory changes one edge. Node 0
// ([GroupNode]) is the group itself: its names are the group's trees, so that a
// group of several trees needs no special case anywhere.
//
// # Invariants
//
//   - Names are byte strings: any bytes but '/' and NUL, at most 255 of them,
//     never "." or "..". They need not be UTF-8. [CheckName] is the one judge.
//   - The content of a file is a list of [ChunkRef]; the sum of the lengths is
//     the file's size. Holes are references without a digest.
//   - Encodings in this package are canonical: equal values have equal bytes, so
//     that digests may be taken over them.
//
// Values of this package are plain data: they may be copied and are not safe for
// concurrent modification.
package change
