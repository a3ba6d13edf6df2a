package change

import "errors"

// ErrNoPeer says that something is to be had from the peer, and there is no session with it.
var ErrNoPeer = errors.New("there is no session with the peer")
