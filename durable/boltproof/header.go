package boltproof

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"syscall"
)

// The format of bbolt's files, version 2, in the byte order of the machine: see
// Page and Meta in its package internal/common.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHead     = 16 // id u64 │ flags u16 │ count u16 │ overflow u32
	metaSize     = 64 // magic u32 │ version u32 │ page size u32 │ flags u32 │ root u64 │ sequence u64 │ free list u64 │ end u64 │ txid u64 │ checksum u64
	metaSum      = 56
	elementSize  = 16 // branch: pos u32 │ key u32 │ page u64; leaf: flags u32 │ pos u32 │ key u32 │ value u32
	bucketHead   = 16 // root u64 │ sequence u64
	freeListMany = 0xFFFF
	noFreeList   = 1<<64 - 1

	branchPage   = 1
	leafPage     = 2
	metaPage     = 4
	freeListPage = 16
	bucketEntry  = 1
)

var order = binary.NativeEndian

// meta is a header page.
type meta struct {
	pageSize int64
	root     uint64
	freeList uint64
	end      uint64 // pages from here on are not in use
	txid     uint64
}

// readMetas reads both headers and returns that of a transaction: the last one, or
// the one with a number.
func readMetas(r io.ReaderAt, txid uint64) (*meta, error) {
	first, err := readMeta(r, 0, 0)
	if err != nil {
		return nil, err
	}
	second, err := readMeta(r, 1, first.pageSize)
	if err != nil {
		return nil, err
	}
	switch {
	case first.pageSize != second.pageSize:
		return nil, damagedf("its headers tell of pages of %d and %d bytes", first.pageSize, second.pageSize)
	case first.txid+1 != second.txid && second.txid+1 != first.txid:
		return nil, damagedf("its headers are of transactions %d and %d", first.txid, second.txid)
	case txid == first.txid:
		return first, nil
	case txid == second.txid:
		return second, nil
	case txid != 0:
		return nil, errPassed
	case first.txid > second.txid:
		return first, nil
	}
	return second, nil
}

// errPassed: the transaction's header was overwritten by later ones.
var errPassed = errors.New("the transaction's header is gone")

func readMeta(r io.ReaderAt, id uint64, pageSize int64) (*meta, error) {
	var b [pageHead + metaSize]byte
	if err := readAt(r, b[:], int64(id)*pageSize); err != nil {
		return nil, err
	}
	h, m := parseHead(b[:]), b[pageHead:]
	sum := fnv.New64a()
	sum.Write(m[:metaSum])
	switch {
	case order.Uint32(m) != boltMagic, order.Uint64(m[metaSum:]) != sum.Sum64():
		return nil, damagedf("header %d is not whole", id)
	case order.Uint32(m[4:]) != boltVersion:
		return nil, damagedf("header %d is of version %d, wanted %d", id, order.Uint32(m[4:]), boltVersion)
	case h.id != id, h.flags != metaPage:
		return nil, damagedf("header %d says that it is page %d of type %d", id, h.id, h.flags)
	}
	found := &meta{
		pageSize: int64(order.Uint32(m[8:])), root: order.Uint64(m[16:]), freeList: order.Uint64(m[32:]),
		end: order.Uint64(m[40:]), txid: order.Uint64(m[48:]),
	}
	if found.pageSize < 1<<10 || found.pageSize > 1<<20 || bits.OnesCount64(uint64(found.pageSize)) != 1 {
		return nil, damagedf("header %d tells of pages of %d bytes", id, found.pageSize)
	}
	return found, nil
}

// readAt fills b. What the disk can't give back is damaged.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return damagedf("it ends at byte %d, wanted %d at least", off+int64(n), off+int64(len(b)))
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// head is what stands before each page.
type head struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

func parseHead(b []byte) head {
	return head{order.Uint64(b), order.Uint16(b[8:]), order.Uint16(b[10:]), order.Uint32(b[12:])}
}
