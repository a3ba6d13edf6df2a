package chunker

import (
	"fmt"
	"slices"
)

// Ends is a [FormerList] in memory: the offset at which each chunk ends. It suits
// files of up to some thousand chunks.
type Ends []int64

// Len returns the number of chunks.
func (e Ends) Len() uint64 { return uint64(len(e)) }

// At returns where chunk i starts and its length.
func (e Ends) At(i uint64) (off, length int64, err error) {
	if i >= uint64(len(e)) {
		return 0, 0, fmt.Errorf("chunk %d of a list of %d", i, len(e))
	}
	if i > 0 {
		off = e[i-1]
	}
	return off, e[i] - off, nil
}

// Find returns the chunk that holds the byte at off.
func (e Ends) Find(off int64) (uint64, error) {
	i, _ := slices.BinarySearch(e, off+1)
	if off < 0 || i == len(e) {
		return 0, fmt.Errorf("byte %d is outside a list of %d chunks", off, len(e))
	}
	return uint64(i), nil
}
