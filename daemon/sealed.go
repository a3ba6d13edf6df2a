package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// A file of the state directory begins with a comment that holds the digest of all that
// follows, so that a flipped bit, or an end that is missing, is noticed even where the rest
// still makes sense. A file without one is of a version before, and is believed.

// sealed is what a file's first line begins with.
const sealed = "# the rest of this file is sha256:"

// sealHint is for a file that doesn't hold what was stored.
const sealHint = "restore the file from a backup, or move the state directory away and pair the nodes anew; if it was changed by hand, remove its first line"

// errDamaged is wrapped where a file doesn't hold what was stored.
var errDamaged = errors.New("the file is damaged: it doesn't hold what was stored")

// seal puts the line before what is stored.
func seal(data []byte) []byte {
	sum := sha256.Sum256(data)
	return append([]byte(sealed+hex.EncodeToString(sum[:])+"\n"), data...)
}

// unseal returns what was stored. It can be read with the line, too, which is a comment.
func unseal(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errDamaged // nothing is never stored
	}
	if data[0] != '#' {
		return data, nil
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(rest)
	if string(line) != sealed+hex.EncodeToString(sum[:]) {
		return nil, errDamaged
	}
	return rest, nil
}
