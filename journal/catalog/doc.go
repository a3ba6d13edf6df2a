// Package catalog keeps what a group's tree consists of: its nodes and names, the
// contents as lists of chunks, who holds which chunk, the objects of this machine
// behind the nodes, Merkle digests over all of it, and the barriers.
package catalog
