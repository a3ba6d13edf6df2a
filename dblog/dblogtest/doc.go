// Package dblogtest is what lies between a source and a gate when package ship isn't
// there, for the tests of the engines. Only tests import it.
//
// The data's way in a test: the engine's [dblog.Source] fills a window, the volatile spool
// of the primary; a [Link] carries that to the standby's spool in sessions, as package ship
// does over the wire; the engine's [dblog.Replica], the gate, reads it there. A Link also
// cuts barriers at the source and brings the replica to them. A [Load] writes on the
// primary meanwhile, and a [Noted] says what a replica at a barrier must have of it.
//
// The servers themselves are children of the test: a [Process], run as a [User].
//
// A Link's methods are for the test's goroutine alone, except what its doc says otherwise:
// the session runs in one of its own. Sources and replicas may be exchanged while it
// carries; spools only while it is broken.
//
// There is no wire, no order of priority among streams, and no standby that is told of
// barriers: tests of those are package ship's and the daemon's.
package dblogtest
