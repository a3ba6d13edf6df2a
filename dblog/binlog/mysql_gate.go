package binlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// commandDumpGTID is COM_BINLOG_DUMP_GTID.
const commandDumpGTID = 0x1e

// Answers of caching_sha2_password.
const (
	answerMore   = 0x01
	passwordFast = 0x03
)

func (mysqlDialect) greeting(version string) string { return version }

func (mysqlDialect) plugin() string { return cachingPassword }

// proof is SHA256(password) XOR SHA256(SHA256(SHA256(password)), challenge).
func (mysqlDialect) proof(password string, challenge []byte) []byte {
	one := sha256.Sum256([]byte(password))
	two := sha256.Sum256(one[:])
	want := sha256.Sum256(append(bytes.Clone(two[:]), challenge...))
	for i := range want {
		want[i] ^= one[i]
	}
	return want[:]
}

// admit is part of [gateWords]: as from a server that knew the password by its cache,
// since the other way wants TLS or a key.
func (mysqlDialect) admit(s *session) error {
	if err := s.send([]byte{answerMore, passwordFast}); err != nil {
		return err
	}
	return s.ok()
}

// settings is part of [gateWords]. The gate is a server of its own, which must not have
// the UUID of one that the replica may become the primary of.
func (mysqlDialect) settings(_ info, a access) map[string]string {
	id := sha256.Sum256([]byte("repld's gate " + a.Password))
	return map[string]string{
		"server_uuid": showUUID(id[:16]), "gtid_mode": "ON", "rpl_semi_sync_source_enabled": "OFF", "rpl_semi_sync_master_enabled": "OFF",
	}
}

// requested is part of [gateWords]. The request is
//
//	 0  flags      2
//	 2  server id  4
//	 6  length     4  of a file's name
//	10  name       n
//	    position   8
//	    length     4  of the set
//	    set        n  as [parseSetBytes] has it
func (d mysqlDialect) requested(_ *session, command byte, b []byte) (history, bool, error) {
	switch command {
	case commandDump:
		return nil, true, setupError{"the replica asks by file and position, want SOURCE_AUTO_POSITION = 1"}
	case commandDumpGTID:
	default:
		return nil, false, nil
	}
	short := fmt.Errorf("a request of %d bytes for the stream", len(b))
	if len(b) < 10 {
		return nil, true, short
	}
	name := uint64(binary.LittleEndian.Uint32(b[6:]))
	if uint64(len(b)) < 10+name+12 {
		return nil, true, short
	}
	b = b[10+name+8:]
	if n := uint64(binary.LittleEndian.Uint32(b)); n > uint64(len(b)-4) {
		return nil, true, short
	}
	have, err := d.parseList(b[4:])
	return have, true, err
}
