// Package control is the control socket: the one door through which operators,
// scripts and other tools ask a running daemon and tell it what to do.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship →
// apply, and carries no replicated data. It holds four things: the JSON types of
// every answer, the server that package daemon puts over its [Backend], the
// client that replctl uses, and the log of events ([EventLog]).
//
// # The socket
//
// HTTP/1.1 over a Unix stream socket with mode 0600: whoever may connect may do
// everything. Requests and answers are JSON.
//
//	GET  /v1/status                                    → Status
//	POST /v1/barrier   BarrierRequest                  → BarrierReply
//	GET  /v1/barriers  ?group= &limit= &find=          → BarrierList
//	POST /v1/verify    VerifyRequest                   → lines: {"progress": VerifyProgress} …, {"report": VerifyReport}
//	POST /v1/pause     ApplyRequest                    → ApplyReply
//	POST /v1/resume    ApplyRequest                    → ApplyReply
//	POST /v1/rewind    RewindRequest                   → RewindReply
//	POST /v1/restore   RestoreRequest                  → RestoreReply
//	GET  /v1/salvage   ?group=                         → SalvageList
//	GET  /v1/salvage/ID ?group= &limit=                → SalvageList of one set, with entries
//	POST /v1/salvage/restore RestoreSalvageRequest     → RestoreReply
//	POST /v1/invite    InviteRequest                   → InviteReply
//	POST /v1/join      JoinRequest                     → JoinReply
//	GET  /v1/ready                                      → ready.Ready
//	GET  /v1/events    ?group= &since_seconds= &follow= → lines: {"event": Event} …, {"done": true}
//
// A failure is {"error": [Error]} with a 4xx or 5xx status; within lines it is the
// last line. A stream of lines that ends in neither "report", "done" nor "error"
// was cut off. The exit code of [Error] is what a command-line tool exits with; it
// is part of the contract, the HTTP status is not.
//
// Within the types: times are RFC 3339 in UTC with nanoseconds, sizes bytes,
// durations seconds as numbers. What is unknown is absent and never zero, so
// optional fields are pointers, or have a zero that no known value has.
//
// # The log of events on disk
//
//	<state>/events.jsonl       one Event per line, the newest last
//	<state>/events.1.jsonl     what was in it before it grew past its limit
//
// # Invariants
//
//   - A socket path is taken over only if nobody answers on it, and taken away
//     at the end only if it is still ours.
//   - The server never holds a lock while it writes to a client: one that does not
//     read slows down nobody but itself.
//   - The log of events never takes more than twice its limit.
//
// # Concurrency
//
// [Client], [Server] and [EventLog] are safe for concurrent use. A [Backend] is
// called from many goroutines at once.
//
// # What it does not promise
//
// The log of events is for people: it is not fsynced, and a power loss may take its
// last lines. No decision of the daemon rests on it.
package control
