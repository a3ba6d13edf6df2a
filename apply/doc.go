// Package apply is step 6 of 6 of the data's way (watch → capture → chunker →
// journal → ship ⇒ ship → journal → apply): it makes the standby's trees equal to
// a barrier. It replays the log into the catalog's overlay, builds every changed
// object complete in the staging directory, commits, and publishes in two phases.
// It seeds a standby from a manifest, verifies and repairs what it keeps, and
// goes back to earlier barriers.
//
// # Invariants
//
//   - The trees are at the applied barrier, or a commit record stands in the
//     scratch file and everything that publishing needs is durable; [Open] then
//     finishes it before anything else happens.
//   - The base of the catalog describes the trees as they were published, with
//     the identity and change time of every object (catalog.Local). The overlay
//     ("next") is the difference to the barrier being worked on, and so the plan.
//   - No byte gets into a staged file unless it came out of a chunk whose BLAKE3
//     digest was checked.
//   - Nothing that the catalog doesn't know, or that changed since it was
//     published, is ever deleted: it is moved to salvage.
//   - A barrier whose overlay has another digest than its certificate is not
//     published.
//   - A barrier that takes away more of a tree than the guard allows is not
//     published until somebody accepts exactly that.
//   - Each step of publishing looks at the identity (change.ObjectID) of what it
//     is about to move and does nothing where its work is done, so that the whole
//     may be repeated from its beginning after a stop at any point.
//
// # The steps of a barrier
//
//  1. Replay: the records between the applied barrier and the newest complete
//     one go into the overlay; where the data of each chunk stands in the log is
//     remembered in the scratch file. Several barriers are published as one. One
//     that lacks data waits for a newer one, which the primary then cuts; only
//     before a promotion, when none will come, [Applier.Settle] goes to the one before.
//  2. Guard: what the overlay deletes and rewrites is counted, see guard.go.
//  3. Stage: every new or changed object is built as own/stage/NODE (in one of
//     the directories own/stage/0 … f, by the last digit of NODE) with its final
//     metadata. A large file that was changed in place gets a redo file
//     own/stage/NODE.redo instead, see redo.go.
//  4. Keep: the history is told the former state of all that the overlay changes,
//     and gets copies of the pieces that patches are about to overwrite.
//  5. One Sync of each volume, then the commit record.
//  6. Publish. Phase 1, deepest old path first, detaches: what moves goes to
//     own/stage/NODE, what vanishes goes away (a directory as a whole to
//     own/stage/gone-NODE). Phase 2, shallowest new path first, attaches. Then
//     redo files are written, leftovers swept, and metadata set, directories last.
//     Because everything that moves is out of the way before anything is put
//     into place, cycles of renames need no special case.
//     A file whose former content the history wants moves there instead of being
//     removed; before it is replaced it gets a second name there.
//  7. Sync, the new identities and change times are recorded in the overlay, the
//     overlay is merged into the base, and the barrier is the applied one.
//
// # The scratch file
//
// apply.db (bbolt) beside the catalog; numbers are big endian. Losing it costs
// work done twice. If it held a commit record, what of the barrier was published
// looks foreign to the next attempt, which goes by the catalog: it is salvaged, and
// built again. A damaged file is set aside as apply.db.damaged, which is the same.
// It is proven whole when it is opened (package boltproof, bucket "proof"), before
// anything in it is gone by. Behind each value stands a CRC-32C of key and value (u32,
// little endian), for what flips while it is open. Format 1 is without "proof", which
// it gets when it is opened.
//
//	chunks   digest[32]                              → offset u64 of the Chunk record in the log
//	staged   node u64                                → what own/stage/NODE holds, see staged
//	detach   ^depth u32 │ order u8 │ parent u64 │ name → operation of phase 1, see operation
//	attach   depth u32 │ parent u64 │ name             → operation of phase 2
//	patch    node u64                                → path of the file to be patched
//	touch    class u8 │ ^depth u32 │ node u64          → path; metadata is set or its change time recorded
//	found    digest[32]                              → while going back: where the history has the chunk
//	state    "format"  → u8, 2
//	         "boot"    → the boot id under which staged was written
//	         "indexed" → u64, the log is indexed up to this offset
//	         "commit"  → the commit record, see commit
//
// # State kept in the catalog
//
// Under keys that begin with "apply.": "applied" (barrier and log position),
// "replayed" (how far the overlay is, in the same transaction as the overlay),
// "seed" (a seed that has not been published yet), "paused", "guard" (what it
// halted, JSON), "history" (the id of the history and its last step), "rewound" (the
// point that the trees were rewound from), "travel" (the overlay leads back),
// "published" (when the newest object was, by the wall clock). Two keys are the
// catalog's own, see [catalog.Handover] and [catalog.Catalog.Claim].
//
// # A seed
//
// [Applier.Seed] imports a manifest into the overlay. Where the trees aren't
// empty it first compares them with the manifest, path by path, and makes the
// catalog's base describe what lies there: with the manifest's node where path
// and kind agree, else with a node of its own (ids from 1<<61), so that the data
// of files that have another name now is found too. From there a seed is a
// barrier like any other, whose staging may begin before the barrier has come;
// only that nothing which was there is deleted: it all goes to salvage. Staged
// files are kept over breaks and restarts, but not over a reboot, which may have
// lost their data.
//
// # Changes of role
//
// [Promote] ends a standby. What the log holds behind the applied barrier is set
// aside as it is, the log goes on at that barrier, empty, and the catalog is handed to
// package capture in one transaction, which decides: before it the directory is a
// standby's, and Open goes on; after it a primary's. The catalog knows by identity and
// change time what was published, so that the primary reads what has changed since
// and nothing else. Of the past nothing can be gone back to any more: [Sweep] removes
// history and leftovers while the node serves.
//
// A former primary becomes a standby by a seed. Its catalog is former.db then: what
// an object's stat proves to be as it was captured isn't read. Before that
// [SalvageDiverged] has kept what only this node has; what has not changed since is
// replaced and removed as by any barrier, what has is set aside, and neither the guard
// nor the halt at a fifth asks. Where it couldn't tell, because the common barrier isn't
// known or the log behind it isn't kept, the seed is one like any other: all that
// differs is set aside.
//
// An epoch that is over is refused in the transactions that replay the log and that
// make a barrier the applied one; a barrier of a higher epoch waits in the log.
//
// # No reflinks
//
// Staged files share no data with others (FICLONERANGE, on xfs and btrfs). What a
// file system shares must be read all the same before it is used, here from the
// new file: cloning and checking 6,000 small files took 0.4 to 1.3 s where checking
// and copying took 0.3 to 0.5, and 512 MiB 0.7 to 2.0 s where copying took 0.8 to
// 3.4, everything durable. Files whose chunks lie at the same offsets, which alone
// can be shared, are rare among large ones that are written anew. What remains is
// room, for which a disk that spoils one of two files would spoil both, where a
// repair takes the data of one from the other. Large files that are
// changed in place are not written anew in any case: see redo.go.
//
// # History and rewind
//
// Package history says what is kept and how. Each barrier of the log is a step of
// it; that the step happened is written with the state that it led to ("history",
// in the overlay), so that after any stop the history has it or not, and never a
// wrong one. If it can't be written, or a file can't be kept, the barrier is
// published nevertheless, and the history begins anew behind it.
//
// [Applier.Rewind] turns the former state into an overlay, by records as from a
// log, whose digest must be that of the barrier's certificate; from there it is
// staged, committed and published as any other, and is a step of the history, too.
// That step's former state is where the log goes on: "rewound" keeps its point, the
// log is not needed before it and not freed behind it, and [Applier.Resume] goes
// there first, out of the history and without a peer. It is never thinned out
// before that. The step that led back then counts as part of the one before it, so
// that going to and fro leaves nothing behind.
//
// Barriers are thinned out by age ([Applier.Tend]), and the oldest go where the
// history outgrows its limit, where the disk is short of its reserve, and where
// staging finds it full. A former state that somebody reads ([Applier.Restore])
// stays until that is done.
//
// # The guard
//
// Of each tree of 20 files or more it counts the files that vanish, but for those
// whose name another file has, and the files that keep less than half of their
// content (by chunks, so that any change of a small file counts), in sum from the
// applied barrier to the newest one. More than Options.Guard percent of the tree's
// files halt it before anything is staged. Later barriers are looked at as they
// come, together with what was halted: once less is lost in sum, it goes on by
// itself. Bytes don't count: one large file is no tree.
//
// # Foreign writes
//
// What somebody else did to the trees shows in the identity, change time, size or
// number of links of an object. It is found where a barrier is about to change the
// object, by verification, and by a look at all objects in turn
// ([Applier.LookAround]). The condition foreign-write ends with a look or a
// verification that finds nothing. An object that was touched and is right in all
// again is taken as it is. Excluded names (Tree.Skip) are nobody's business: neither
// they, nor the time that they give their directory, nor what was replicated before
// it was excluded. If their directory goes they are salvaged.
//
// # Salvage
//
// own/salvage/BARRIER/files/TREE/PATH holds what was set aside, BARRIER being the
// id of the barrier that was being applied; own/salvage/BARRIER/manifest.jsonl
// says of each object in one JSON line what it was and why. own/salvage/epoch-N is
// what a former primary had changed in epoch N, copied or cloned; names that it had
// taken away have a line of their own, with nothing kept. It is made as own/diverged, and its
// file "fingerprint" says what of, so that a repetition keeps nothing twice.
//
// # Concurrency
//
// All methods of [Applier] may be called at any time from any goroutine; one
// barrier, seed, verification batch or repair works on the trees at a time. The
// log may be appended to meanwhile, but must not be freed beyond the applied
// barrier.
//
// # What it doesn't promise
//
// Verification holds publishing up for as long as one batch takes: 64 MiB, or one
// larger file.
//
// While a barrier is being published a reader of the standby's tree sees a
// mixture of two barriers; nobody should rely on a standby's tree unless the
// applier is paused. A foreign write in the instant between the check of an
// object and its replacement may be lost. A move of an object from one tree to
// another is a removal and a new object.
//
// Rewinding copies what differs out of the history, and takes disk space for that.
// [Applier.Restore] keeps hard links among the first 100,000 files. After a loss of
// power a kept file that was just being removed may stay behind.
package apply
