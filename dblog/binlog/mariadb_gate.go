package binlog

import (
	"bytes"
	"crypto/sha1"
	"fmt"
)

// greeting has the prefix by which clients know MariaDB.
func (mariadbDialect) greeting(version string) string { return "5.5.5-" + version }

func (mariadbDialect) plugin() string { return nativePassword }

// proof is SHA1(password) XOR SHA1(challenge, SHA1(SHA1(password))).
func (mariadbDialect) proof(password string, challenge []byte) []byte {
	one := sha1.Sum([]byte(password))
	two := sha1.Sum(one[:])
	want := sha1.Sum(append(bytes.Clone(challenge), two[:]...))
	for i := range want {
		want[i] ^= one[i]
	}
	return want[:]
}

func (mariadbDialect) admit(s *session) error { return s.ok() }

func (mariadbDialect) settings(info, access) map[string]string {
	return map[string]string{"gtid_domain_id": "0", "rpl_semi_sync_master_enabled": "OFF"}
}

// requested is part of [gateWords].
func (d mariadbDialect) requested(s *session, command byte, b []byte) (history, bool, error) {
	switch text, ok := s.vars["slave_connect_state"]; {
	case command != commandDump:
		return nil, false, nil
	case len(b) < 10:
		return nil, true, fmt.Errorf("a request of %d bytes for the stream", len(b))
	case !ok:
		return nil, true, setupError{"the replica asks by file and position, want MASTER_USE_GTID=slave_pos"}
	default:
		have, err := d.parse(text)
		return have, true, err
	}
}
