package capture

import "errors"

// ErrLogBehind says that the log lacks records which the catalog holds: a segment
// was lost or restored from a backup. The pair must be seeded again.
var ErrLogBehind = errors.New("log and catalog don't belong together")

// ErrNotScanned says that the first scan isn't complete: there is no base to send.
var ErrNotScanned = errors.New("the first scan of the tree is not complete yet")

// ErrStopped is returned to callers that wait for a barrier when Run ends.
var ErrStopped = errors.New("capturing has stopped")

// errChanged says that an object changed while it was read; the next round takes it.
var errChanged = errors.New("changed while it was read")
