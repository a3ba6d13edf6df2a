package config

// level is a mapping of the file: which keys it knows.
type level struct {
	what string // in messages, after "in" and "of"
	keys []string
}

// The levels of the file. Hints list keys in this order.
var (
	topLevel = &level{"the configuration", []string{"node", "designated", "listen", "state", "control", "http", "disk_reserve",
		"log_level", "start_alone", "peer", "groups", "hooks", "coordination", "alerts", "parity"}}
	peerLevel      = &level{"peer", []string{"name", "address"}}
	groupLevel     = &level{"a group", []string{"name", "trees", "databases", "barrier", "bandwidth", "journal", "history", "guard", "rescan"}}
	treeLevel      = &level{"a tree", []string{"name", "path", "exclude", "append_only", "staging", "watch"}}
	barrierLevel   = &level{"barrier", []string{"every", "late_after", "quiesce", "cgroup", "freeze_max"}}
	bandwidthLevel = &level{"bandwidth", []string{"limit", "windows"}}
	windowLevel    = &level{"a window", []string{"from", "to", "limit"}}
	journalLevel   = &level{"journal", []string{"limit"}}
	historyLevel   = &level{"history", []string{"keep", "limit", "every"}}
	guardLevel     = &level{"guard", []string{"changed"}}
	rescanLevel    = &level{"rescan", []string{"every"}}
	hooksLevel     = &level{"hooks", []string{"promote", "demote", "fence", "check"}}
	hookLevel      = &level{"a hook", []string{"exec", "systemd", "http", "address", "dns", "timeout", "retry", "on_error"}}
	systemdLevel   = &level{"systemd", []string{"start", "stop", "enable", "disable"}}
	hookHTTPLevel  = &level{"http of a hook", []string{"get", "post", "expect", "contains"}}
	addressLevel   = &level{"address", []string{"add", "remove", "dev"}}
	dnsLevel       = &level{"dns", []string{"server", "zone", "set", "ttl", "key_file"}}
	alertLevel     = &level{"an alert", []string{"exec", "http", "at_most_every", "timeout"}}
	alertHTTPLevel = &level{"http of an alert", []string{"post", "headers", "headers_file"}}
)

var levels = []*level{topLevel, peerLevel, groupLevel, treeLevel, barrierLevel, bandwidthLevel, windowLevel, journalLevel,
	historyLevel, guardLevel, rescanLevel, hooksLevel, hookLevel, systemdLevel, hookHTTPLevel, addressLevel, dnsLevel,
	alertLevel, alertHTTPLevel, databaseLevel, postgresLevel, mariadbLevel, mysqlLevel, execLevel, redisLevel, coordinationLevel, etcdLevel, parityLevel}

// later are the keys that a later version will have. They are known, so that
// nobody has to guess whether a key was mistyped, and refused, so that nobody
// relies on what isn't there. A version that builds one moves it to its level.
var later = []struct {
	at  *level
	key string
	is  shape // a value of another shape is told too
}{
	{groupLevel, "scrub", isMapping},
}

const notYet = "not in this version"
