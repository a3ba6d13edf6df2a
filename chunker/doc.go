// Package chunker is step 3 of 6 on the data's way (watch → capture → chunker →
// journal → ship → apply): it cuts the content of a file into chunks where the
// content itself says so, so that equal stretches of data become equal chunks
// wherever they stand, and an edit changes few of them.
//
// [Chunker] splits a stream. [Rechunk] brings the list of chunks of a file up to
// date after a range of it changed, reading little more than the range.
//
// # Invariants
//
//   - The chunks of a file, one after another, are the file. None is empty or
//     longer than Max; all but the last are at least Min.
//   - Boundaries depend on the content and [Options] only: not on the platform,
//     nor on how much each read returned.
//   - A chunk's length depends on the bytes from its start to its end, and on
//     whether the file ends there; on nothing before and nothing after. That is
//     why rechunking may start at any boundary, and may stop at any that is met.
//
// # Where a chunk ends
//
// Let b be the bytes from the start of the chunk, with sizes as in [Options], and
// all arithmetic modulo 2^64, words little endian. A position p is an anchor if
// the eight bytes before it, times anchorMul, are in the top 64/Avg of the range:
// one position in 1,024 of random data. At an anchor the 32 bytes before it are
// hashed. If the hash is in the lowest part of the range (hard before Avg, easy
// from it on) the chunk ends there; if not, the next Avg/8 bytes are not looked at.
//
//	0           Min                         Avg                            Max
//	├─ not read ─┼── scan ─┊─ jump ─┊ scan ─┊─┼─ jump ─┊ scan ─┊─ jump ─┊ … ─┤
//	                    anchor          anchor             anchor:
//	                    hash ≥ hard     hash ≥ easy        hash < easy, ends
//
// A chunk ends at Max, or with the file, if no anchor ended it. Two passes over
// the same data that started apart fall into step at the first anchor that both
// visit, most often long before the next boundary; so the jumps cost little
// deduplication. hard and easy are a factor of 16 apart (the normalised chunking
// of FastCDC), which makes for few short and few long chunks. Holes and runs of one
// byte hold no anchor and come out as chunks of Max bytes. newCutter has the
// thresholds; the golden test holds all of it still.
//
// # Why this algorithm
//
// All were measured as streams, one thread, with 16/64/256 KiB:
//
//	go test -run - -bench 'Compare|SmallFiles' ./chunker
//
// Go 1.26, Xeon at 2.3 GHz, while the machine had other work, 64 MiB of each. GB
// per second of processor time; mean and standard deviation of the sizes; KiB to
// send again per small edit, and per 1,000 bytes inserted at the front:
//
//	                   random data             Go source               Go binaries
//	                   GB/s mean dev edit ins  GB/s mean dev edit ins  GB/s mean dev edit ins
//	this package       11.2   63  18   71 129   8.7   66  22   79  91   9.5   65  19   82 110
//	go-cdc jc          10.7   49  44  113 418  10.6   48  45  101 143   9.4   48  46  108 302
//	go-cdc jc 1.0.0     3.0   81  65  145 103   2.9   80  68  150 122   2.9   78  65  136  96
//	go-cdc fastcdc      1.6   41  18   49  49   1.6   45  19   56  57   1.5   42  19   54  53
//	go-cdc fastcdc 1.0  1.3   73  22   80  69   1.3   78  30   91  84   1.3   73  23   80  78
//	gear                1.9   64  45   97  64   1.9   71  58  143 133   1.8   66  49   97  63
//	gear, normalised    1.8   69  21   75  78   1.9   71  27   82  88   1.7   69  22   75  78
//	JC as published     3.5   70  58  129  78   3.0   75  65  144 117   3.3   69  56  122  84
//	RAM                 1.9   64   0  235   –   1.8   98  62  378 563   1.8   70  28  213 846
//	AE                  0.4   65  23   95  68   0.4   60  26  138 164   0.4   59  23   97  77
//	SeqCDC, runs of 5  11.2   16   0  305 762   5.5   19  14  243 386   2.7   23  30  197 457
//	SeqCDC, runs of 7   2.1   52  35  175 556   1.9   67  73  281 589   1.5  130  95  340 581
//
// (– is most of the 2 MiB that were tried.) The benchmark has two more kinds, a log
// and short records. What decided:
//
//   - Against normalised gear, FastCDC's method, the same bytes are sent again per
//     small edit, within a tenth, and sizes spread less, at four to six times the
//     speed. After a long insertion up to twice as much is sent (some 50 KiB more,
//     once): jumps fall into step later. On 16-byte records with a counter it was
//     248 KiB against 83.
//   - go-cdc-chunkers' jc was faster on text and logs by 20 to 30 per cent, equal on
//     binaries, slower on random data and records by 5 to 10. Its masks are those of
//     8 KiB chunks with the jumps of 64 KiB ones, so it looks at one byte in thirty;
//     for that nearly half of its chunks are of the least size and it sends 30 to 75
//     per cent more after an edit, three times as much after an insertion into
//     random data.
//   - go-cdc-chunkers' fastcdc sends the least per edit because its chunks are
//     a third smaller than asked for; counted in chunks it is much the same.
//   - Methods that compare bytes instead of hashing them have nothing to compare
//     in 64 KiB of random data (RAM hardly ever falls into step), or depend on the kind of
//     data (AE and SeqCDC find no boundary at all in records). Vector instructions
//     make them faster, not better: boundaries are the same.
//
// The papers: FastCDC, Xia et al., USENIX ATC 2016 and IEEE TPDS 31(9), 2020. JC,
// Jin et al., "Accelerating Content-Defined Chunking for Data Deduplication Based on
// Speculative Jump", IEEE TPDS 34(9), 2023. RAM, Widodo et al., FGCS 71, 2017. AE,
// Zhang et al., INFOCOM 2015. SeqCDC, Udayashankar et al., Middleware 2024, and
// arXiv 2505.21194 with vector instructions; VectorCDC, FAST 2025.
//
// # Memory and concurrency
//
// A Chunker has one buffer of three times Max, 768 KiB, allocated at the first
// read; no chunk and no Reset allocates. A Chunker belongs to one goroutine, and a
// chunk is valid until the next call.
//
// # What it does not promise
//
// It knows nothing of holes: a file with holes is a sequence of runs of data, each
// chunked for itself, and rechunked with an [io.SectionReader] and a list of that
// run. Rechunk believes the range that it is given and the list: bytes that changed
// elsewhere stay unseen, and a list made with other options gives a correct list
// that is not the one of the whole file. Boundaries are not keyed: who can choose the
// content can choose them, and who sees the lengths learns about the content.
package chunker
