package health

// Code names a kind of trouble. Codes are stable: scripts match on them.
type Code string

// The conditions of repld.
const (
	BarrierLate       Code = "barrier-late"
	FreezeFailed      Code = "freeze-failed" // the application can't be frozen for a barrier
	LinkDown          Code = "link-down"
	JournalFull       Code = "journal-full"
	DiskLow           Code = "disk-low"
	WatchLimit        Code = "watch-limit"
	WatchOverflow     Code = "watch-overflow"
	UncoveredFiles    Code = "uncovered-files"
	NotPermitted      Code = "not-permitted"
	ForeignWrite      Code = "foreign-write"
	GuardHalted       Code = "guard-halted"
	SeedHalted        Code = "seed-halted"
	ChunkMissing      Code = "chunk-missing"
	VerifyDiffers     Code = "verify-differs"
	MissedChanges     Code = "missed-changes"
	ClockSkew         Code = "clock-skew"
	PeerVersion       Code = "peer-version"
	TransportFallback Code = "transport-fallback"
	DatabaseDown      Code = "database-down"
	DatabaseSetup     Code = "database-setup"
	DatabaseBypass    Code = "database-bypass"
	DatabaseAhead     Code = "database-ahead"
	DatabaseNeedsSeed Code = "database-needs-seed"
	SpoolFull         Code = "spool-full"
	Held              Code = "held"
	Fenced            Code = "fenced"
	SplitBrain        Code = "split-brain"
	HookFailed        Code = "hook-failed"
	RoleStuck         Code = "role-stuck"
	RoleChanged       Code = "role-changed"      // it never stands: alerts tell of it
	CoordinationDown  Code = "coordination-down" // etcd doesn't answer
	GroupFailed       Code = "group-failed"      // a group of this node does not work at all
	GroupDiffers      Code = "group-differs"     // a group's trees or databases are not the same on both nodes
	AlertFailed       Code = "alert-failed"      // a sink of alerts can't be told
	StateDamaged      Code = "state-damaged"     // a part of a node's state was damaged and is made again
)

// Severity says how much a condition matters.
type Severity string

// Info is worth knowing; Warning will hurt if it stays; Critical hurts now:
// without an operator a failover would lose data or not work.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Rank orders severities: 1 for info, 2 for warning, 3 for critical, 0 for
// anything else.
func (s Severity) Rank() int {
	switch s {
	case Info:
		return 1
	case Warning:
		return 2
	case Critical:
		return 3
	}
	return 0
}

// Describe returns the severity and the hint that a condition of this code gets
// when whoever raises it gives none. A code that it does not know is a warning
// without a hint.
func Describe(c Code) (Severity, string) {
	if d, ok := described[c]; ok {
		return d.severity, d.hint
	}
	return Warning, ""
}

// Codes returns every known code, in the order of the operators' documentation.
func Codes() []Code {
	return []Code{
		BarrierLate, FreezeFailed, LinkDown, JournalFull, DiskLow, WatchLimit, WatchOverflow, UncoveredFiles, NotPermitted,
		ForeignWrite, GuardHalted, SeedHalted, ChunkMissing, VerifyDiffers, MissedChanges, ClockSkew, PeerVersion,
		TransportFallback, DatabaseDown, DatabaseSetup, DatabaseBypass, DatabaseAhead, DatabaseNeedsSeed, SpoolFull,
		Held, Fenced, SplitBrain, HookFailed, RoleStuck, RoleChanged, CoordinationDown, GroupFailed, GroupDiffers, AlertFailed, StateDamaged,
	}
}

type description struct {
	severity Severity
	hint     string
}

var described = map[Code]description{
	BarrierLate:       {Warning, "look at the files that the text names: something writes them without pause; declare logs append_only, or exclude them"},
	FreezeFailed:      {Warning, "mend what the text names, barrier.cgroup, or raise barrier.freeze_max; meanwhile barriers are cut without a freeze, or come late"},
	LinkDown:          {Warning, "check that the peer runs and that its address and port (UDP) can be reached from here"},
	JournalFull:       {Critical, "bring the standby or the link back, or raise journal.limit; until then changes are only remembered, not logged"},
	DiskLow:           {Critical, "free space on the file system that the text names, or lower disk_reserve; on a standby replctl salvage list shows what was set aside and takes space"},
	WatchLimit:        {Warning, "raise the limit: sysctl fs.inotify.max_user_watches=1048576 (and put it into /etc/sysctl.d); directories without a watch are polled meanwhile"},
	WatchOverflow:     {Info, "the kernel dropped change events and the tree was scanned again; if it repeats, raise fs.inotify.max_queued_events or run with CAP_SYS_ADMIN so that fanotify can be used"},
	UncoveredFiles:    {Warning, "the files that the text names can change without a kernel event (mapped writable, or libaio): the certificate lists them as uncovered"},
	NotPermitted:      {Info, "run repld as root, or with the capabilities of its unit file (CAP_CHOWN and so on, see docs/INSTALL.md), to keep owners, devices and privileged attributes and to see every change; an attribute that is of a kind or size which the file system doesn't take needs another one"},
	ForeignWrite:      {Warning, "somebody writes into the standby's tree: stop it; what it wrote is kept in salvage"},
	GuardHalted:       {Critical, "more of the tree goes or is rewritten at once than guard allows: look at the primary, then replctl resume --accept"},
	SeedHalted:        {Critical, "more than a fifth of what is in the standby's directory would be set aside: check that it is the right directory, then replctl resume --accept"},
	ChunkMissing:      {Warning, "data was missing or rotten on the standby and is asked for again; check the disk if it repeats"},
	VerifyDiffers:     {Critical, "run replctl verify --repair, and check the standby's disk and memory"},
	MissedChanges:     {Warning, "a full scan found changes that no event had told: look for mapped writes, loop devices or another host that writes into the tree"},
	ClockSkew:         {Warning, "let both machines keep time by NTP; replication is not affected, times in reports are"},
	PeerVersion:       {Critical, "the peer speaks another format version: upgrade the standby first, then the primary"},
	TransportFallback: {Info, "UDP does not pass between the nodes: open it for better throughput"},
	DatabaseDown:      {Critical, "the database does not answer: look at its own log"},
	DatabaseSetup:     {Critical, "the database lacks a setting that replication needs: the text names it"},
	DatabaseBypass:    {Critical, "the replica reads its stream past repld: point its connection at repld again"},
	DatabaseAhead:     {Critical, "unless it was promoted and serves now, the replica needs a seed (replctl database seed NAME on the standby); one that was only let past the applied barrier is well again when a barrier passes it"},
	DatabaseNeedsSeed: {Critical, "run replctl database seed NAME on the standby"},
	SpoolFull:         {Critical, "the database's stream outgrew its limit: bring the standby back, then run replctl database seed NAME there"},
	Held:              {Critical, "this node waits because it could not ask its peer: bring the peer up, or replctl failover to serve alone"},
	Fenced:            {Critical, "the peer has taken over with a higher epoch: replctl rejoin makes this node its standby"},
	SplitBrain:        {Critical, "both nodes were promoted in the same epoch: decide which one serves; both sides' data is kept"},
	RoleStuck:         {Critical, "a change of roles can neither go on nor back by itself: mend what its text names, then give the command again"},
	HookFailed:        {Critical, "a hook failed: the text has its command and the end of its output"},
	RoleChanged:       {Info, "the text says what was decided, by whom, and what a failover gave up; replctl events has the steps"},
	CoordinationDown:  {Critical, "see that a majority of etcd's members run and can be reached from here, and that the certificates are valid; a node without it stops serving"},
	GroupFailed:       {Critical, "the text has the reason; the group is opened again and again until the reason is gone"},
	GroupDiffers:      {Critical, "give the group the same trees and databases in the configurations of both nodes, and restart the one that was changed"},
	StateDamaged:      {Warning, "look after disk and memory of this machine; then remove what was set aside"},
	AlertFailed:       {Warning, "alerts don't get out and are tried again: the text has the reason; mend the command, the service or the settings under alerts"},
}
