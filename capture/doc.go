// Package capture turns a dirty set into log records and cuts barriers. It is
// step 2 of 6 on the data's way: watch → capture → chunker → journal → ship →
// apply.
//
// # Invariant
//
// A barrier is a consistent cut at an instant t*: every object's captured version
// is its version at t*, system calls in flight at t* excepted. So a barrier that
// holds a write holds every write that completed before that one was issued.
//
// # The cut
//
// An attempt is a sequence of rounds. A round takes
//
//	D = what the last round found changed
//	    ∪ all whose last event is younger than two seconds
//	    ∪ drain to the kernel's EAGAIN            (that instant is t*)
//
// takes a stat of each object of D right before that drain (S0),
// and captures D in batches, the most recently changed objects first. A batch is
//
//	S1 = stat of each object; read it; read its metadata
//	wait for the lock of each directory that holds one of them
//	S2 = stat of each object
//	E  = all that was drained since t*, up to a drain now
//
// An object of the batch stands if S1 = S2, no event of E concerns it (by any of
// its names, nor by a directory above that moved), and its time stamp isn't later
// than t*: a call that is not over yet has no event, but has changed that. S0 makes
// sure that it shows: the first change after a stat gets another time stamp
// (multigrain time stamps, Linux 6.13), so S1 must be S0, and what had an event between
// S0 and t* is looked at again before a new t*. Where time stamps are coarse, an object
// must not have changed for a tick before t*. An event
// that comes after its batch doesn't matter: it happened after t* and after the
// object was read, so what was read is the version of t*. That is why small batches,
// hottest first, converge where one large window doesn't. Objects outside D had no
// completed change between their last capture and t*. The cut is accepted if every
// object of D stands and no drain of the round added a watch; otherwise the next
// round, with a t* of its own, captures what did not stand and what the drains
// brought.
//
// The lock is that of the calls that create, remove and rename: they hold it until
// their events are queued, so that a name whose effect was seen is drained next.
//
// Names are judged in the directory that the catalog means. Directories are kept open,
// and one that is follows its directory when that moves, so behind each drain that tells
// of names every path is followed from the root again; before the names in a directory
// are compared with those of a node, the object at its path must be that node's, or its
// own name comes first.
//
// The two seconds cover a write that another process saw, and acted upon, before
// the writer's call returned and its event was queued: its time stamp changes
// before its data can be seen, so a fresh stat of recently changed objects finds
// it. A file that was read within two seconds after its time stamp is read again as
// long as it is recent, whatever its stat: the write of that time stamp may not have
// been over. Other objects of D without a new event whose stat is the captured one
// are not read again. Names that are gone are not kept in D, their directories are.
//
// After [Options.MaxRounds] rounds an attempt ends without a barrier. What was
// captured stays in the log and streams on, so that the barrier is cheap once the
// hot file rests; a file whose reading takes longer than the gaps between its
// writes is tried ever more rarely until it rests, and health names it. For half the time
// until a barrier is late a large file is read no further once it has changed behind its
// look: who writes one has it read once, when all is there. After that it is read to its
// end each time, which leaves little to be sent of one that never rests.
//
// # What is captured ahead
//
// Before t* everything dirty that is small and has one name is captured, then what has
// become dirty meanwhile, and so on, a few times (where databases are to be paired, as long
// as each pass leaves less to the next): so little is left to be read behind t*.
// An object captured so, or in an earlier round, rests if a look right behind it showed
// the stat that the catalog has. Behind t* all that rest are looked at again, without
// anything in between, directories first. One that looks the same was not changed by any call that
// began after that stat (the same argument as for S0), so its version is that of t*,
// and neither later events nor reading it matter. A call that had begun before the object was
// captured, and is not over, is the one way left to be wrong: where the time stamp was
// younger than two seconds when it was read, the file is read again behind t*, through a
// descriptor that was opened before, so that removing it doesn't matter, and must be what was
// captured. What doesn't look the same ends the round at once; what doesn't rest is
// captured behind t*, in batches as above. This is for file systems with fine time stamps
// only; elsewhere everything is captured behind t*.
//
// What lies below a directory that was made or moved rests once the catalog has the
// directory that a look after that event saw in its place.
//
// A directory that is to be listed never rests, for a listing finds what no event tells;
// and where a whole tree is scanned, as after a start, nothing is captured ahead.
//
// # Names that go
//
// What was done to a file through one of its names may be told by that name alone, and be
// read when the name is gone, leads to another object, or the directory above is gone. So
// a file that the catalog knows by several names, and that loses one of them, is captured by another
// one in the same round, read if an event told of its content; that one is looked at before
// t* if the name was seen to have gone by then. Of a directory that the trees don't have
// any more at the end of a round all files are treated so that have names elsewhere: if
// they are more than 10,000 that is as a scan, and no cut. A round that ends before it
// has come to this leaves it to the next one.
//
// A file that has names in several trees is a node in each. What is dirty by a name in
// one is dirty in the others, too, and is looked at there where the name has gone.
//
// # Freezing
//
// Where rounds don't converge, from half of an attempt on, the application is made to
// stand still for one (Options.Freezer, at most three times in an attempt), or for every
// barrier (Options.FreezeFirst). That round captures ahead as any other, freezes when
// little is left, and thaws when everything was read, before records are made durable
// and databases confirm. Frozen writers have no call under way, and the events of all calls
// that are over were drained: so a time stamp younger than t* is no sign of a
// call that isn't over, and nothing is read again only because one might not have been. Who writes
// and isn't frozen is noticed as without a freeze, by events and stats; only what somebody
// does because of a call of theirs that isn't over is not covered then. A round whose freeze was over before the end
// is no cut. After a failure freezes pause, for ever longer, up to a minute, and
// barriers are tried without. The certificate has the rung, and how long it stood still.
//
// # Files that only grow
//
// A file that is declared append-only ([Tree.AppendOnly]) is taken as a prefix, so
// that growing never makes a barrier late. The prefix is as long as the file was at
// the instant of the cut: all such files of D are looked at again right before each
// drain that may become t*, and that stat is the version that is captured; whatever
// is appended later is left to the next cut. What is read must still be that file,
// no shorter, of the same owner, mode and number of names. If the last drain tells
// that one of these files alone has grown since the look, the cut moves back to the
// look, since nothing else has changed in between. If it tells that several have, or
// other things beside, it can't be said which came first: the round looks and drains
// again, up to sixteen times, further rounds do, and in the second half of an attempt or once it has taken long
// the barrier is cut with the names of those files among its uncovered ones.
//
// Since its version is settled before, such a file is read behind all others of the
// round. The content of a large one is read from its last chunk on: if that chunk is still
// where it was, what is before is taken as unchanged, and the list of chunks is
// spliced at its end. A file that became shorter, was replaced, has another last
// chunk, or a hole behind it, is read whole. So a declaration that is wrong loses
// changes that are made far before the end of a file; only verification finds those.
//
// # Databases
//
// A barrier holds for each database of the group the position where its log ended at
// an instant tL of its own. Who writes a file and then commits a row wants tL ≤ t*, who
// commits a row and then writes a file t* ≤ tL. So the round, once all of D was looked
// at, opens a pairing window:
//
//	drain          nothing came; this instant is t*
//	read the position of every database, all at once
//	drain          nothing came
//
// If either drain brings something, that is D's, too, and it is all done again from the
// look on: thirty-two times and for fifty milliseconds at most. Then this round can't become a
// barrier and the next one tries; files without a pause longer than a window make the
// barrier late. If a database doesn't answer the attempt ends with its first round:
// files go into the log, and no barrier with them.
//
// Why the files at t* and the positions belong together:
//
//   - No call that changes a file was over between t* and the second drain: it would
//     have had an event. All tL lie between them.
//   - File, then row: if the row's commit is before its database's tL, the call that
//     changed the file was over before, so before t*, and a cut holds what was over
//     before t*.
//   - Row, then file: if the captured version has the file's change, that call had
//     begun to take effect before t*. For each object of D has the time stamp that it
//     had in a look before t*; where time stamps are coarse or there was no look, one
//     that is older than t* by a tick; and what is not in D was captured earlier. So
//     the call was issued before t*, the commit was over before that, and t* ≤ tL.
//   - A file that only grows is captured as of its last look, which is before t*, and
//     here neither drain may tell that it has grown: the cut never moves back to
//     that look with positions that are later.
//
// What was committed in one database and then in another is held so, too: the
// positions of several are read three times over, and those in the middle are of one
// instant if all databases but one stand at the end where they stood at the beginning.
// If two move without pause, further tries and rounds are made, and in the second half
// of an attempt or once it has taken long the barrier is cut with "database NAME" of
// those among its uncovered files: they belong together with the files, but between
// each other they may be apart by one window.
//
// All of this is for the calls as their callers see them. One that was seen before it
// was over is covered as everywhere in a cut: by the two seconds, for files; a
// database shows a commit no sooner than its position is past it.
//
// Confirmations and [Capturer.Barrier] count from t*, the earlier instant.
//
// The barrier's record is written only after every database has confirmed that its
// log is durable up to what was read ([DatabaseSource]); that is outside the window. If
// one doesn't, there is no barrier from this round; if its server was restarted,
// another round reads everything anew. From then on until a barrier is committed one
// is owed: a confirmed database may think that it rests. The same holds after a
// start, and after any attempt that ends without a barrier.
//
// A barrier is due if a file is dirty, one is owed, or a database has moved
// ([dblog.Reading]). If none of it is so the newest barrier is confirmed as of the drain
// before the positions.
//
// # Scans
//
// Large subtrees (the first scan, a periodic rescan) are not part of a cut: they
// are captured as they are met, and the round after them takes what changed
// meanwhile. The first scan ends when every object was captured once: the base is no
// cut, and the first barrier follows it.
//
// # What is written where
//
// Records are appended to the log and applied to the catalog in one order. A
// commit syncs the log first and the catalog second, so that after a crash the
// catalog is never ahead of the log; [New] cuts the log back to the catalog. The
// first scan of a tree writes the catalog only: a standby gets it as a base, and
// seeding needs no journal of the tree's size. A stat is kept for an object only
// together with its content; where a commit may come between, it is marked as
// doubtful, so that no crash leaves one as a false proof of the other. A chunk that the catalog knows
// carries no data. Above the journal's limit chunks carry none either: the
// standby asks for them by digest.
//
// # Limits
//
// At [Settings.JournalLimit], and where the disk of the log has less room than is to
// be kept ([Options.Space]), nothing is captured while the standby still has barriers
// to apply: events are only added to the dirty set, whose size is bounded. The barrier
// after that is the sum of what happened meanwhile. If the standby has none, or lacks data
// for the newest that the primary hasn't any more, the log must go on, since only another
// barrier lets it shrink; an eighth beyond the limit its chunks carry no data. Below an
// eighth of the room to be kept nothing is written in any case.
//
// Nodes without a name are taken away in transactions of their own before a barrier;
// a mark in the catalog has this finished before anything else after a crash.
//
// # Guards
//
// Before each attempt every root must be the directory that was opened (else
// [tree.ErrRootReplaced]), and not be empty if the catalog has five or more objects
// below it ([ErrEmptied]). Otherwise capturing halts with guard-halted, the log stays
// as it is, and all is scanned once the trees are back. [Capturer.Accept] has an
// emptied tree taken as it is. A tree that is removed little by little is not noticed
// here; what a single barrier takes away the standby judges.
//
// # Concurrency
//
// [Capturer.Run] is the only writer of the log and the catalog of a primary. The
// other methods may be called from anywhere; [Capturer.Set] changes the [Settings].
//
// # Memory
//
// A batch holds 32 MiB of content at most; a transaction is committed after some
// 8,000 records or 80,000 references, in the midst of a file if need be; a round
// remembers what it captured, up to 20,000 objects when it can't become a cut.
//
// # What it does not promise
//
// While a tree of millions is scanned by a periodic rescan no barrier is cut.
// Writes through shared writable mappings and by libaio are not seen; such files
// are found by looking at the processes of this machine and named in the
// certificate as uncovered. Changes within a file that is declared to grow at its
// end only are not found, unless they reach its last chunk. Of a write through one of several
// names that is seen to be gone before the event is drained only time stamps tell. Ages are monotonic: a jump
// of the wall clock changes nothing but the cut times in the certificates.
package capture
