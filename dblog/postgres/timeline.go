package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"repld/dblog/spool"
)

// info is what a chapter of the spool tells of a timeline, as JSON.
type info struct {
	System      string `json:"system"`       // system identifier
	Version     int    `json:"version"`      // server_version_num
	SegmentSize uint64 `json:"segment_size"` // bytes
	History     string `json:"history"`      // content of the timeline's history file
}

func parseInfo(b []byte) (info, error) {
	var i info
	if err := json.Unmarshal(b, &i); err != nil {
		return i, fmt.Errorf("what the spool says of a timeline: %w", err)
	}
	if i.SegmentSize < 1<<20 || i.SegmentSize > 1<<30 || i.SegmentSize&(i.SegmentSize-1) != 0 {
		return i, fmt.Errorf("what the spool says of a timeline: a segment size of %d", i.SegmentSize)
	}
	return i, nil
}

// fork is a line of a history file: a timeline ends at, and is followed by the next.
type fork struct {
	timeline uint32
	at       LSN
}

// parseHistory reads a history file (access/transam/timeline.c), oldest first.
func parseHistory(content string) ([]fork, error) {
	var list []fork
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q of a timeline history: want timeline and position", line)
		}
		tl, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q of a timeline history: %w", line, err)
		}
		at, err := ParseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("line %q of a timeline history: %w", line, err)
		}
		if n := len(list); n > 0 && (list[n-1].timeline >= uint32(tl) || list[n-1].at > at) {
			return nil, fmt.Errorf("line %q of a timeline history: it doesn't follow the line before", line)
		}
		list = append(list, fork{uint32(tl), at})
	}
	return list, nil
}

// historyBefore returns the history file of a timeline, out of that of a later one.
func historyBefore(content string, timeline uint32) string {
	var out strings.Builder
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if tl, err := strconv.ParseUint(fields[0], 10, 32); err == nil && uint32(tl) >= timeline {
			break
		}
		out.WriteString(line)
	}
	return out.String()
}

// lineage is a timeline with its ancestors.
type lineage struct {
	timeline uint32
	forks    []fork
}

// end returns where a timeline of the lineage ends and which one follows; false for
// the newest, and known is false for one that isn't among them.
func (l *lineage) end(timeline uint32) (at LSN, next uint32, historic, known bool) {
	if timeline == l.timeline {
		return 0, 0, false, true
	}
	i := slices.IndexFunc(l.forks, func(f fork) bool { return f.timeline == timeline })
	if i < 0 {
		return 0, 0, false, false
	}
	next = l.timeline
	if i+1 < len(l.forks) {
		next = l.forks[i+1].timeline
	}
	return l.forks[i].at, next, true, true
}

// begin returns where a timeline begins: where the one before ends, or zero.
func (l *lineage) begin(timeline uint32) LSN {
	for _, f := range slices.Backward(l.forks) {
		if f.timeline < timeline {
			return f.at
		}
	}
	return 0
}

// at returns the timeline on which a position lies.
func (l *lineage) at(p LSN) uint32 {
	for _, f := range l.forks {
		if p < f.at {
			return f.timeline
		}
	}
	return l.timeline
}

// chapter returns the spool's chapter of a timeline of the lineage.
func (l *lineage) chapter(timeline uint32, i info) (spool.Chapter, error) {
	if timeline != l.timeline {
		i.History = historyBefore(i.History, timeline)
	}
	b, err := json.Marshal(i)
	if err != nil {
		return spool.Chapter{}, err
	}
	begin := l.begin(timeline)
	return spool.Chapter{Number: timeline, Start: uint64(begin), Forks: begin > 0, Info: b}, nil
}
