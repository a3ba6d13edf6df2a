// Package web answers over HTTP what load balancers, monitoring and people ask of
// a node: which role it has, how far it is behind, what is wrong. It stands beside
// the data's way, watch → capture → chunker → journal → ship → apply, above package
// control, whose [control.Status] is all that it knows.
//
//	/            the status page, one self-contained document without scripts
//	/production  200 when this node serves                              (/primary is the same)
//	/standby     200 when this node stands by; with ?max-lag=5s when it also is no further behind
//	/healthz     200 when the daemon answers for its own status in time
//	/metrics     for Prometheus
//
// GET, HEAD and OPTIONS only; OPTIONS answers as HEAD does, because that is what
// load balancers ask by. A role endpoint that is not fulfilled answers 503 and an
// [Answer] that says why.
//
// # Invariants
//
//   - Every answer is made of one Status: never of two moments.
//   - What is not known is never taken for good: a group whose lag is unknown is
//     behind, a parameter that nobody knows is refused (400), a metric without a
//     value is absent.
//   - A daemon that hangs is told from one that works: Status has a time limit, and
//     only a bounded number of calls can be stuck in it.
//   - Nothing here changes anything, so that it may be shown where the control
//     socket must not be.
//
// # Concurrency
//
// A [Server] is safe for concurrent use. Status is called from several goroutines
// at once, at most eight. Connections, header sizes and times are bounded.
//
// # What it does not promise
//
// There is no authentication and no TLS: listen on a loopback or management
// address, or put a proxy in front. A 200 is true of the moment of the Status that
// it was made of; what must not happen twice is decided by epochs, not by a load
// balancer.
package web
