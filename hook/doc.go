// Package hook does outside of repld what a change of role needs there: it starts and
// stops services, moves addresses and names, calls programs and URLs.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship → apply.
// Package role says when hooks run; this one how.
//
// # Kinds
//
//	exec     a program with its arguments, no shell
//	systemd  units: start, stop, enable, disable, over D-Bus
//	http     a request that expects a status and a text
//	address  an address of an interface, by netlink; neighbours are told (gratuitous
//	         ARP, RFC 5227; unsolicited neighbour advertisement, RFC 4861 7.2.6)
//	dns      address records, by RFC 2136 with TSIG (RFC 8945)
//
// # Invariants
//
//   - The hooks of a list run in its order, one at a time.
//   - Each kind but exec can be repeated: what is so already is no error. Programs must
//     be written like that, because a list runs again after a crash.
//   - An attempt ends with its time limit; a program with all of its process group, by
//     SIGKILL. A list ends soon after its context.
//   - A failure with on_error abort ends the list; with go-on it is reported, and the
//     next hook runs.
//   - What a program writes and what a service answers is kept up to 4 KiB.
//
// Programs get, beside the daemon's own environment less what systemd means for the
// daemon alone:
//
//	REPLD_NODE REPLD_PEER       names
//	REPLD_HOOK                  promote, demote, fence or check
//	REPLD_ROLE REPLD_STATUS     what this node is becoming
//	REPLD_EPOCH                 number
//	REPLD_BARRIER REPLD_BARRIERS  the barrier that is promoted, "GROUP=ID" of each group
//
// # Concurrency
//
// A [Runner] is safe for concurrent use; each Run has its own connections.
//
// # What it does not promise
//
// A program that left its process group (setsid(2)) survives its time limit. Neighbours
// that drop announcements keep the old address until their caches expire. A program has
// the daemon's privileges.
package hook
