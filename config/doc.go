// Package config is the configuration of the service: what stands in its file,
// checked as far as a text can be checked without looking at the machine.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship
// → apply, and knows none of its packages: package daemon turns the values into
// their options. Nothing here has an effect.
//
// # Invariants
//
//   - A key is known and used, or it is an error. A key of a later version is
//     such an error too ("not in this version"); the table later lists them.
//   - A value means one thing. Sizes, rates, durations and percentages have
//     units; what looks like a number where a text is wanted is refused.
//   - Every error has file, line and column, says what was found and what was
//     wanted, and is one line. All that can be told at once is told at once.
//   - What [Parse] returns is complete: absent keys have their defaults, paths
//     are absolute and clean, names can be names of files.
//   - No two trees overlap, by their paths; neither does a tree and the state
//     directory or a staging directory. Symbolic links and mounts are for who looks at
//     the machine.
//
// # Format
//
// One YAML document of at most [MaxSize] bytes, without anchors, aliases, tags
// and directives. The keys, with their defaults:
//
//	node                    this node's name; absent: "", which stands for the host's name
//	designated              primary or secondary; must be given
//	listen                  UDP address, ":7440"
//	state                   directory, /var/lib/repld
//	control                 Unix socket, /run/repld/control.sock
//	http                    TCP address of health endpoints and metrics; absent: off
//	disk_reserve            5% (then at least 1 GiB), or a size, which counts as it stands
//	log_level               debug, info, warn, error; absent: as --log-level says
//	start_alone             hold or serve; hold
//	peer                    {name, address}; absent: as paired
//	groups                  list, at least one
//	  name                  letters, digits, ".", "_", "-"; must be given
//	  trees                 list, at least one
//	    name, path          must be given
//	    exclude             doublestar patterns, relative to the tree
//	    append_only         the same
//	    staging             directory on the same file system; absent: beside the tree
//	    watch               auto, fanotify, inotify, poll; auto
//	  barrier               {every: 1s, late_after: 10s, quiesce: [optimistic]}; with quiesce
//	                        [optimistic, cgroup] or [cgroup] also cgroup, which must be given,
//	                        and freeze_max: 50ms
//	  bandwidth             {limit, windows: [{from, to, limit}]}; absent: no limit
//	  journal               {limit: 8GiB}
//	  history               {keep: 24h, limit: 20GiB, every: {1h: all, 24h: 1m}}
//	  guard                 {changed: 50%}; 100% switches it off
//	  rescan                {every: 1h}
//	hooks                   {promote, demote, fence, check}, each a list of one of
//	                        {exec: […]}, {systemd: {start, stop, enable, disable}},
//	                        {http: {get or post, expect: 200, contains}},
//	                        {address: {add or remove, dev}},
//	                        {dns: {server, zone, set: {name: address}, ttl: 1m, key_file}},
//	                        each with timeout (30s), retry (0) and on_error: abort, go-on
//	                        (demote and fence: abort; promote and check: go-on)
//	coordination            absent: there is none
//	  etcd                  {endpoints: [URL, …], ttl: 10s, ca, cert, key}
//	  failover_after        the ttl
//	  demote_within         half of the ttl; package lease/timing has what must hold
//	  databases_within      the part of it that is kept for shutting database servers down;
//	                        half of it where there are any, which must have start and stop
//	  watchdog              a device; absent: none
//	alerts                  list of {exec: […]} or {http: {post, headers, headers_file}},
//	                        each with at_most_every (5m) and timeout (30s)
//	parity                  {files: [pattern, …], commands: [[program, argument, …], …],
//	                        settings: [name, …]}
//
// The types of package config say what each value means.
//
// # Reloading
//
// What may change while the daemon runs is in [Live] and [GroupLive], which
// [Config] and [Group] embed; everything else needs a restart. [Diff] tells what
// changed.
//
// # Concurrency
//
// Functions keep no state. A Config is not changed after it was parsed, so any
// number of goroutines may read it.
package config
