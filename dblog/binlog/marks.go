package binlog

import "repld/change"

// markEvery is how many bytes of stream lie between two marks at least.
const markEvery = 64 << 10

// marks remembers where events begin that were shipped: the server can only begin a
// stream there, and what else it has of the file would have to be read from its
// beginning.
type marks struct {
	list  []change.StreamPosition // of one file, ascending
	about info                    // of that file
}

// add notes a position.
func (m *marks) add(at change.StreamPosition, about info) {
	n := len(m.list)
	if n > 0 && m.list[n-1].Chapter != at.Chapter || m.about.Name != about.Name {
		m.list, n = nil, 0
	}
	if n > 0 && at.Offset < m.list[n-1].Offset+markEvery {
		return
	}
	m.list, m.about = append(m.list, at), about
}

// before returns the last mark before a position.
func (m *marks) before(at change.StreamPosition) (change.StreamPosition, info, bool) {
	for i := len(m.list) - 1; i >= 0; i-- {
		if m.list[i].Chapter == at.Chapter && m.list[i].Before(at) {
			return m.list[i], m.about, true
		}
	}
	return change.StreamPosition{}, info{}, false
}

// forget drops the marks that are not needed to begin at a position or behind it.
func (m *marks) forget(at change.StreamPosition) {
	for len(m.list) > 1 && m.list[1].Before(at) {
		m.list = m.list[1:]
	}
}
