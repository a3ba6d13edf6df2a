// Package notify tells the service manager how the daemon does: that it is ready,
// what it is doing, that it reloads, that it stops, and again and again that it is
// alive (sd_notify(3), the protocol of systemd).
//
// It stands beside the data's way, watch → capture → chunker → journal → ship
// → apply, and knows none of its packages: package daemon decides when what is
// said, and what "alive" means.
//
// # Invariants
//
//   - Without NOTIFY_SOCKET in the environment nothing is sent and nothing fails.
//     Without WATCHDOG_USEC, or with the WATCHDOG_PID of another process, no
//     keep-alive is sent.
//   - A keep-alive is sent only after the daemon's own check has said in this round
//     that it works. So a check that fails or hangs ends in the manager's
//     restart, and a deadlock somewhere else can't be hidden by a ticker.
//   - A text is one line: it can't carry another assignment of the protocol.
//
// # Format
//
// One datagram for each message, to the Unix socket that NOTIFY_SOCKET names (a path, or
// with "@" in front a name in the abstract namespace), lines NAME=VALUE:
//
//	READY=1 STATUS=text                   start or reload is over
//	STATUS=text                           changes of what is going on
//	RELOADING=1 MONOTONIC_USEC=n          reload begins; n is CLOCK_MONOTONIC in µs
//	STOPPING=1 STATUS=text                the end begins
//	WATCHDOG=1                            alive
//
// # Concurrency
//
// All methods may be called from any goroutine at any time. New starts
// none; the keep-alives come from [Service.Run].
//
// It does not promise that anybody listens: a message that can't be delivered is
// logged, the first of its kind as a warning, and otherwise forgotten.
package notify
