package apply

import (
	"sync/atomic"

	"repld/change"
)

// Progress is how far a seed is.
type Progress struct {
	FilesDone, FilesTotal uint64
	BytesDone, BytesTotal uint64
	BytesFetched          uint64 // data that crossed the link since the applier was opened
}

type progress struct {
	filesDone, filesTotal atomic.Uint64
	bytesDone, bytesTotal atomic.Uint64
	bytesFetched          atomic.Uint64
}

// Progress returns how far the present seed is, or how the last one ended.
func (a *Applier) Progress() Progress {
	p := &a.progress
	return Progress{
		FilesDone: min(p.filesDone.Load(), p.filesTotal.Load()), FilesTotal: p.filesTotal.Load(),
		BytesDone: min(p.bytesDone.Load(), p.bytesTotal.Load()), BytesTotal: p.bytesTotal.Load(),
		BytesFetched: p.bytesFetched.Load(),
	}
}

// begin starts counting an attempt to stage a base; done is what needs no staging.
func (p *progress) begin(filesDone, bytesDone uint64, filesTotal, bytesTotal uint64) {
	p.filesDone.Store(filesDone)
	p.bytesDone.Store(bytesDone)
	p.filesTotal.Store(filesTotal)
	p.bytesTotal.Store(bytesTotal)
}

func (p *progress) file(size uint64, kind change.Kind) {
	if kind != change.KindDir {
		p.filesDone.Add(1)
		p.bytesDone.Add(size)
	}
}

func (p *progress) fetched(n int) { p.bytesFetched.Add(uint64(n)) }
