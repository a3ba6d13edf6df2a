package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// Seal puts a body into a frame with the right checksums, whatever it is.
func Seal(typ byte, body []byte) []byte {
	b := append(make([]byte, frameHead), body...)
	if Type(typ) == TypeChunk && len(body) > chunkHead {
		binary.LittleEndian.PutUint32(b[frameHead+chunkChained:], crc32.Checksum(b[frameHead+chunkHead:], castagnoli))
	}
	if Type(typ) == TypeChunk && len(body) <= chunkHead {
		return b
	}
	seal(b, Type(typ), len(body))
	return b
}

// SumHeader puts the right checksum into a segment's header.
func SumHeader(b []byte) {
	binary.LittleEndian.PutUint32(b[headerSum:], crc32.Checksum(b[:headerSum], castagnoli))
}

// What tests need to know of the format.
const (
	HeaderSize       = headerSize
	MarkAt           = markAt
	IncarnationsFile = incarnationsName
)
