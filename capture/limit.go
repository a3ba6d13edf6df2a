package capture

import (
	"fmt"

	"repld/health"
)

// spaceEvery is after how many bytes of chunks the room on the disk is looked at.
const spaceEvery = 32 << 20

// journalFull reports, and raises, that the log is at its limit, or the disk that it
// is on: nothing is captured until the standby has taken some of it, and what is
// dirty is remembered. A log of one unfinished barrier must go on, because nothing
// else can end it, and so must one whose barriers the standby can't apply, since they lack
// data; a little beyond the limit its chunks carry theirs, so that what is captured now
// needn't be asked for, and then no more.
func (c *Capturer) journalFull() bool {
	low, none := c.judgeSpace()
	limit, bytes := c.settings().JournalLimit, c.opts.Log.Bytes()
	over := bytes >= limit
	stuck := c.sink.logging && (c.opts.Waiting == nil || c.opts.Waiting())
	c.beyond = over && !stuck
	if over && stuck {
		c.raise(health.JournalFull, fmt.Sprintf("the journal holds %d bytes; the limit is %d: changes are remembered by name until the standby catches up", bytes, limit))
	} else {
		c.resolve(health.JournalFull)
	}
	return none || (over || low) && stuck
}

// judgeSpace looks how much room the disk of the log has, and raises disk-low: low
// says that it is less than is to be kept, none that nothing may be written.
func (c *Capturer) judgeSpace() (low, none bool) {
	c.sink.unlooked = 0
	if c.opts.Space == nil {
		return false, false
	}
	free, reserve, err := c.opts.Space()
	if err != nil {
		c.opts.Logger.Warn("could not look how much room the disk of the log has", "error", err)
		return c.lowDisk, false
	}
	if c.lowDisk = free < reserve; !c.lowDisk {
		c.resolve(health.DiskLow)
		return false, false
	}
	none = free < reserve/8
	does := "changes are remembered by name until the standby has taken what is in the log"
	if none {
		does = "nothing is captured"
	}
	c.raise(health.DiskLow, fmt.Sprintf("the disk of the log has %d bytes left; %d are to be kept free: %s", free, reserve, does))
	return true, none
}

// room reports whether chunks may carry data.
func (c *Capturer) room() bool {
	if c.sink.unlooked >= spaceEvery {
		c.judgeSpace()
	}
	limit := c.settings().JournalLimit
	if c.beyond {
		limit += limit / 8
	}
	return !c.lowDisk && c.opts.Log.Bytes() < limit
}
