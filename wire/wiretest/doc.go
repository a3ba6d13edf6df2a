// Package wiretest provides links for the tests of package wire and of what is
// built on it: a UDP relay with delay, loss, limited bandwidth and cuts, and pairs
// of connected nodes. It is imported by tests only.
//
// The relay's decisions about loss are drawn from a seeded generator per
// direction, in the order in which packets come: the same packets in the same
// order meet the same fate. Real sockets don't promise the same packets twice, so
// a test must hold for any of them; the seed only makes runs alike.
package wiretest
