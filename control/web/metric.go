package web

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metric is one name that /metrics has. What is not known has no sample.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	desc       *prometheus.Desc
}

// metrics are all of them, in the order of the operators' documentation.
var metrics []*metric

func gauge(name, help string, labels ...string) *metric {
	return define(prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) *metric {
	return define(prometheus.CounterValue, name, help, labels)
}

func define(kind prometheus.ValueType, name, help string, labels []string) *metric {
	m := &metric{name: name, help: help, kind: kind, labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
	metrics = append(metrics, m)
	return m
}

// sample is a value of m. Names come from operators, and label values must be UTF-8.
func (m *metric) sample(value float64, labels ...string) prometheus.Metric {
	for i := range labels {
		labels[i] = strings.ToValidUTF8(labels[i], "\uFFFD")
	}
	return prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

// The metrics of the node. They are part of the operators' interface: names and
// labels are only added to.
var (
	mUp        = gauge("repld_up", "1 if the daemon answered for its status in time; if 0, nothing else of it is here.")
	mInfo      = gauge("repld_info", "Always 1; the labels say which node and version this is.", "version", "node")
	mRole      = gauge("repld_role", "1 for the role that the node has, 0 for the others.", "role")
	mStatus    = gauge("repld_status", "1 for the status that the node has within its pair, 0 for the others.", "status")
	mEpoch     = gauge("repld_epoch", "Epoch of the node: counts the changes of role of the pair.")
	mLinkUp    = gauge("repld_link_up", "1 if the link to the peer is up, 0 if it is down or no peer is known.")
	mRTT       = gauge("repld_rtt_seconds", "Round trip time of the link.")
	mLastSeen  = gauge("repld_last_seen_seconds", "Time since the peer was last heard of.")
	mCondition = gauge("repld_condition", "1 for each standing condition of health.", "code", "severity", "group")
)

// The metrics of each group.
var (
	mPhase        = gauge("repld_phase", "1 for the phase that the replication of the group is in, 0 for the others.", "group", "phase")
	mLagSeconds   = gauge("repld_lag_seconds", "Age of the oldest change that the standby has not applied; on a standby without link, time since it was last confirmed current.", "group")
	mLagBytes     = gauge("repld_lag_bytes", "Log that the standby has not applied.", "group")
	mLagFiles     = gauge("repld_lag_files", "Files that are dirty or not applied.", "group")
	mBarrierAge   = gauge("repld_barrier_age_seconds", "Time since the newest barrier of this stage was cut; grows while nothing changes.", "group", "stage")
	mConfirmedAge = gauge("repld_confirmed_age_seconds", "Time since the newest barrier of this stage was last known to hold all changes.", "group", "stage")
	mBarrierEpoch = gauge("repld_barrier_epoch", "Epoch of the newest barrier of this stage.", "group", "stage")
	mBarrierSeq   = gauge("repld_barrier_seq", "Number, within its epoch, of the newest barrier of this stage.", "group", "stage")
	mUncovered    = gauge("repld_barrier_uncovered_files", "Files that could have changed unseen by the newest barrier of this stage.", "group", "stage")
	mStall        = gauge("repld_barrier_stall_seconds", "How long writers stood still for the newest barrier of this stage.", "group", "stage")
	mJournal      = gauge("repld_journal_bytes", "Disk use of the group's log.", "group")
	mJournalLimit = gauge("repld_journal_limit_bytes", "Limit of the group's log.", "group")
	mSent         = counter("repld_sent_bytes_total", "Bytes that crossed the link since the daemon started: sent by a primary, received by a standby.", "group")
	mSentRaw      = counter("repld_sent_uncompressed_bytes_total", "The same before compression.", "group")
	mChunks       = counter("repld_chunks_total", "Chunks that crossed the link since the daemon started.", "group")
	mChunksDedup  = counter("repld_chunks_deduplicated_total", "Chunks that did not have to, for the peer had them.", "group")
	mTreeFiles    = gauge("repld_tree_files", "Files of the group at the newest barrier that this node has, directories not counted.", "group")
	mTreeBytes    = gauge("repld_tree_bytes", "Size of these files.", "group")
	mSeedDone     = gauge("repld_seed_done_files", "Files of the first copy that are there.", "group")
	mSeedFiles    = gauge("repld_seed_files", "Files of the first copy in all.", "group")
	mSeedDoneB    = gauge("repld_seed_done_bytes", "Bytes of the first copy that are there.", "group")
	mSeedBytes    = gauge("repld_seed_bytes", "Bytes of the first copy in all.", "group")
	mSeedETA      = gauge("repld_seed_eta_seconds", "Time that the first copy will still take.", "group")
)
