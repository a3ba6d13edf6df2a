package change

import (
	"encoding/binary"
	"fmt"
)

// DatabasePosition is where the replication stream of a database stood at a barrier.
type DatabasePosition struct {
	Name     string // in the configuration, one of a kind in its group
	Engine   string // one of the Engine constants, or what a later version knows
	Position StreamPosition
	// Retain is where the stream must be kept from as long as this is the newest
	// barrier; zero if that isn't known.
	Retain StreamPosition
}

// The engines whose way to write a position is known. The words are stored,
// transmitted and shown.
const (
	EnginePostgres = "postgres"
	EngineMariaDB  = "mariadb"
	EngineMySQL    = "mysql"
	EngineRedis    = "redis"
	EngineExec     = "exec"
)

// String returns the position as the engine itself writes it: an LSN such as
// "0/1A2B3C8" for PostgreSQL (its timeline is left out, as it is there), number and
// offset of the binary log file for MariaDB and MySQL ("000042:1337"), for Redis master_repl_offset, which is one less than the byte that
// comes next, and for commands the number that stands for their text.
// Of engines that it doesn't know it is that of [StreamPosition.String].
func (p DatabasePosition) String() string {
	at := p.Position
	switch p.Engine {
	case EnginePostgres:
		return fmt.Sprintf("%X/%X", at.Offset>>32, uint32(at.Offset))
	case EngineMariaDB, EngineMySQL:
		return fmt.Sprintf("%06d:%d", at.Chapter, at.Offset)
	case EngineRedis:
		return fmt.Sprint(max(at.Offset, 1) - 1)
	case EngineExec:
		return fmt.Sprint(at.Offset)
	}
	return at.String()
}

// Bounds of what is decoded.
const (
	maxDatabases = 1024 // of one group
	maxEngine    = 64   // bytes of the word
)

// AppendDatabases appends the encoding of list, which must be sorted by name. Of an
// empty list that is nothing at all: it stands at the end of what holds it, which is
// then as it was before there were databases.
func AppendDatabases(b []byte, list []DatabasePosition) []byte {
	if len(list) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(list)))
	for i := range list {
		b = AppendString(b, list[i].Name)
		b = AppendString(b, list[i].Engine)
		b = appendStreamPosition(b, list[i].Position)
		b = appendStreamPosition(b, list[i].Retain)
	}
	return b
}

func appendStreamPosition(b []byte, p StreamPosition) []byte {
	b = binary.AppendUvarint(b, uint64(p.Chapter))
	return binary.AppendUvarint(b, p.Offset)
}

// Databases reads all that is left as [AppendDatabases] wrote it.
func (d *Decoder) Databases() []DatabasePosition {
	if d.err != nil || d.Len() == 0 {
		return nil
	}
	n := d.Uvarint("number of databases", maxDatabases)
	if d.err == nil && n == 0 {
		d.Fail("a list of no databases")
	}
	var list []DatabasePosition
	for i := uint64(0); i < n && d.err == nil; i++ {
		p := DatabasePosition{Name: d.String("database", NameMax), Engine: d.String("engine", maxEngine)}
		p.Position = d.streamPosition("position")
		p.Retain = d.streamPosition("position to retain from")
		if i > 0 && list[i-1].Name >= p.Name {
			d.Fail("databases are not sorted")
		}
		list = append(list, p)
	}
	if d.err != nil {
		return nil
	}
	return list
}

func (d *Decoder) streamPosition(what string) StreamPosition {
	return StreamPosition{Chapter: uint32(d.Uvarint(what, 1<<32-1)), Offset: d.Uvarint(what, 1<<64-1)}
}
