// Package freeze has the processes of a control group stand still for a moment, so that
// a cut can be made that they don't disturb. It stands beside the data's way, watch →
// capture → chunker → journal → ship → apply; capture is its only user.
//
// # Invariants
//
//   - Nothing stays frozen for longer than [Options.Max], also when this process
//     is killed, is stopped, or waits for a disk: a process of its own, the
//     watchdog, is told before each freeze, and thaws when the time is over, again and
//     again until it is told that this is done, or when its pipe closes. If both are
//     killed at once, [Recover] thaws at the next start.
//   - This process is never frozen: a group that it belongs to is refused, at each
//     freeze anew.
//   - What somebody else has frozen is left alone.
//   - A freeze that was over too early is told ([Frozen.Still]): it proves nothing.
//
// # What a freeze is
//
// Only version 2 of control groups is used (cgroup.freeze, Linux 5.2), wherever it is
// mounted: on hybrid systems beside version 1. A group counts as frozen when the kernel
// says so in cgroup.events, which is read again and again, since it is announced every
// ten milliseconds at most. Each task of it and of the groups below has
// then left the kernel: none of its calls is under way, and the events of all of them are
// queued. A task that waits for a disk without letting itself be interrupted (state D)
// keeps the group from getting there; after half of the time it is given up. What was
// handed to the kernel goes on: asynchronous writes (libaio, io_uring), write-back.
//
// # The watchdog
//
// It is started with the first freeze and ends with this process. They speak in lines,
// on its standard input and output:
//
//	arm NANOSECONDS DIRECTORY     →  armed, or error TEXT
//	done                          →  done, or late NANOSECONDS: after so long it has thawed
//
// It ignores the signals by which services are stopped, so that it outlives
// this process by a moment whatever comes.
//
// # Privileges
//
// Writing cgroup.freeze of the group: root, or the user to whom the group is
// delegated, and a file system of control groups that isn't mounted read-only
// (ProtectControlGroups= of systemd makes it so).
//
// # Concurrency
//
// A [Freezer] freezes once at a time; its methods may be called from any goroutine.
//
// # What it does not promise
//
// That the group has all writers: what others write isn't stopped, and capture finds
// out by itself. A database server must not be in it: it could not tell its position.
package freeze
