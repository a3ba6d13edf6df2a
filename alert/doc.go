// Package alert tells people what changes in health: a condition is raised, becomes
// more or less severe, is resolved. It stands beside the data's way, watch → capture →
// chunker → journal → ship → apply, and reads nothing but the [health.Board].
//
// Each [Sink] is a command or an HTTP service. What to tell it is not a queue of
// changes but a difference: between what the sink was last told stands (its ledger)
// and what stands now. So nothing can pile up, and nothing is lost:
//
//	stands, not told                         raised
//	stands, told, resolved in between        updated, with how often it was raised
//	stands, told with another severity       updated
//	stands, told, another text or hint       nothing: texts count seconds
//	told, stands no more                     resolved
//	neither, but came and went in between    resolved, "untold", with how often it was raised
//	news that never stood                    happened, before all else
//
// What is held back ([Alerter.Hold], a planned outage) counts as neither until that is
// over.
//
// All differences go out in one [Message], the gravest first, at most one message
// per AtMostEvery. The first change after a quiet time is told at once.
//
// # Failures
//
// A message counts as told when the command exits with 0 or the service answers 2xx;
// until then the difference stays, and later changes join it. A service is asked
// again after 1, 2 and 4 s, then with a growing pause of 30 s to 10 min; a command
// with that pause from the beginning, and not before AtMostEvery, for it may have
// told somebody before it failed. Meanwhile the condition alert-failed stands with the sink's name as its subject; all
// other sinks are told of it.
//
// # Restarts
//
// The ledgers are kept in a file (Options.State), so that a restart tells nobody
// again what stood before and stands still. What was told before the restart and has
// not been raised again within Settle of the start is resolved. Without a file, and
// for a sink that is new, everything that stands is told once.
//
//	{"version": 1, "told": {SINK: [condition, …]}}
//
// A file that is damaged or of another version counts as none: the worst is a message
// too many.
//
// # Invariants
//
//   - A sink is told "resolved" for each condition that it was told is raised.
//   - A message begins AtMostEvery after the one before that got there, or later.
//   - One sink never waits for another, and nobody waits for a sink.
//   - A command gets a list of arguments, no shell, none of the daemon's ambient
//     capabilities, and a process group of its own, which ends with its time limit.
//
// # Concurrency
//
// An [Alerter] is safe for concurrent use. Run has a goroutine for each sink.
//
// # What it does not promise
//
// A message may come twice (the service got it, the answer was lost; the daemon
// stopped before it had written that down). Conditions that came and went within a
// quiet time are forgotten if the daemon stops before it is over. Of more than a
// thousand such conditions in a quiet time the message only has the number.
package alert
