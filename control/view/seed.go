package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"repld/control"
)

// rateWindow is how far back the rate of a seed looks.
const rateWindow = 10 * time.Second

// SeedMeter makes the progress line of a seed and measures its rate. A general
// progress bar would take what an earlier session had done for speed, and knows
// either files or bytes.
type SeedMeter struct {
	samples []sample
}

type sample struct {
	at    time.Time
	bytes uint64
}

// Line returns one line about a seed at a moment: share done, files, bytes, rate
// and the time left, as far as they are known.
func (m *SeedMeter) Line(s *control.Seed, now time.Time) string {
	rate := m.rate(s.BytesDone, now)
	parts := []string{}
	if share, ok := seedShare(s); ok {
		parts = append(parts, fmt.Sprintf("%s %3.0f %%", gauge(share), 100*share))
	}
	files := humanize.Comma(int64(s.FilesDone))
	if s.FilesTotal != nil {
		files += "/" + humanize.Comma(int64(*s.FilesTotal))
	}
	parts = append(parts, files+" files")
	size := Bytes(s.BytesDone)
	if s.BytesTotal != nil {
		size += "/" + Bytes(*s.BytesTotal)
	}
	parts = append(parts, size)
	if rate > 0 {
		parts = append(parts, Bytes(uint64(rate))+"/s")
	}
	switch {
	case s.ETA != nil:
		parts = append(parts, "ETA "+Duration(s.ETA.Duration()))
	case rate > 0 && s.BytesTotal != nil && *s.BytesTotal >= s.BytesDone:
		left := float64(*s.BytesTotal-s.BytesDone) / rate
		parts = append(parts, "ETA "+Duration(time.Duration(left*float64(time.Second))))
	}
	return strings.Join(parts, "  ")
}

// rate takes a sample and returns bytes per second within the window, 0 while
// there is nothing to tell it from.
func (m *SeedMeter) rate(bytes uint64, now time.Time) float64 {
	if n := len(m.samples); n > 0 && bytes < m.samples[n-1].bytes {
		m.samples = nil // a new seed
	}
	m.samples = append(m.samples, sample{now, bytes})
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	elapsed := now.Sub(first.at).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(bytes-first.bytes) / elapsed
}

// seedShare is the part that is done. Bytes and files count alike, because small
// files cost their number and large ones their size.
func seedShare(s *control.Seed) (float64, bool) {
	if s.FilesTotal == nil || s.BytesTotal == nil {
		return 0, false
	}
	part := func(done, total uint64) float64 {
		if total == 0 {
			return 1
		}
		return min(1, float64(done)/float64(total))
	}
	return (part(s.FilesDone, *s.FilesTotal) + part(s.BytesDone, *s.BytesTotal)) / 2, true
}

func gauge(share float64) string {
	const width = 24
	done := int(share * width)
	bar := strings.Repeat("=", done)
	if done < width {
		bar += ">"
	}
	return fmt.Sprintf("[%-*s]", width, bar)
}

// Line is the last line of a terminal, drawn again and again.
type Line struct {
	w     io.Writer
	drawn bool
}

// NewLine returns a line on the terminal w.
func NewLine(w io.Writer) *Line { return &Line{w: w} }

// Draw replaces the line's text, which should be shorter than the terminal is wide.
func (l *Line) Draw(text string) {
	fmt.Fprintf(l.w, "\r%s\x1b[K", text) // EL, ECMA-48 8.3.41: erase to the end of the line
	l.drawn = true
}

// End leaves the last text where it is and moves on to the next line.
func (l *Line) End() {
	if l.drawn {
		fmt.Fprintln(l.w)
	}
	l.drawn = false
}

// Clear takes the line away, so that something else may be written.
func (l *Line) Clear() {
	if l.drawn {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
	l.drawn = false
}
