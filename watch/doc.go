// Package watch is step 1 of 6 on the data's way: watch → capture → chunker →
// journal → ship → apply. It turns the kernel's events into a coalesced dirty set
// ([Set]) and knows the instant up to which that set is complete ([Sync]).
//
// # Invariants
//
//   - What a system call changed is in the set of a [Watcher.Drain] that began
//     after the call returned, or in that of an earlier one (Sync.Exact).
//   - An item says where to look, never what happened: the kernel merges events,
//     so nothing may be concluded from their order or number.
//   - Never silence: lost events, an error, an event that can't be placed make the
//     trees concerned dirty as a whole; what can't be watched is polled, and a
//     condition says so (watch-limit, watch-overflow).
//   - Only ENOENT, ENOTDIR and ESTALE mean that something is gone. EMFILE and the
//     rest mean that nothing is known.
//   - At the start everything is dirty: the first drain has each root as Subtree.
//
// # How to read a set
//
// A key is (tree, directory, name), as of when the event was read; name "" is the
// directory itself. Paths go stale when a directory above moves. Then its old
// and its new name are Entries and its new path is a Subtree, in the same drain
// or a later one, so a key that leads nowhere is nothing to worry about.
//
//	Content   of a name: read the file, whatever its time stamps say
//	Meta      of a name or a directory: stat it and read its attributes
//	Entry     of a name: it appeared, vanished or was replaced; the directory gets Meta
//	Names     of a directory: read it and compare the stat of each name in it
//	Subtree   of a directory: the same, recursively; contents only where stats differ
//
// An object may have more names than the event told. Items carry its inode
// number where the back end knows it; objects that are known by nothing else are
// listed apart ([Set.Objects]): changed through a name outside the trees, through
// no name at all (an NFS server opens by handle), or their name was given away
// since. Such an object need not be in a tree. Where a name that the reader knew is gone
// or leads to another object, the other names that its old object had are dirty, too: what
// happened through it may have been told by it alone, and be read only when it was gone.
// The same goes for all names below a directory that is gone, and for names in other
// trees of the same file system, with either back end.
//
// D ∩ E of a cut is [Set.Overlaps]. An inotify drain that added a watch
// (Sync.AddedWatches) must be followed by another round.
//
// # Bounds
//
// A set holds at most 131,072 items, 32,768 directories and 65,536 objects, 7 MB
// for 100,000 files in 1,000 directories, some 30 MB at worst (more if paths are long). More
// than 4,096 names in one directory become Names; beyond the rest the deepest
// directories become Subtrees of those above. fanotify's cache holds 32,768
// directories (about 10 MB). inotify takes about 1.3 KB for each directory, most
// of it in the kernel.
//
// # fanotify
//
// One mark for the whole file system, with directory handle, name and the
// object's handle in each event, and FAN_RENAME, which tells both names at once.
// It needs CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH, Linux 5.17, and a file system that
// allows it: ext4, xfs, tmpfs, btrfs at its top level (a subvolume if the top
// level is mounted somewhere); not overlay, FUSE, NFS. [Auto] falls back to
// inotify. Reading until EAGAIN is an exact sync point.
//
// A mark also tells what happens outside the trees. The directory's handle is
// looked up (open_by_handle_at, /proc/self/fd) and the answer cached, inside or
// outside; when a directory moves, the cache forgets everything below its old and
// new path. A rename across a tree's border, or that of a skipped directory, is a
// creation or a removal. A removed directory can't be looked up: see graves.
//
// # inotify
//
// A watch on each directory, through the fsnotify library, which decides what
// this back end must do about it:
//
//   - Watches know paths, not directories. When a directory moves, the library
//     forgets its watch and keeps those below under their old paths; a second
//     watch on the same directory becomes an alias of the first. So every watched
//     directory is known by device and inode here, as seen before and after its watch was
//     added; a moved one is given up with all below it, and watched anew at its new path.
//   - A directory is searched after its watch was added, and is a Subtree.
//   - Errors come apart from events, some of them while the library holds the lock
//     that adding a watch needs. A goroutine of their own receives them. Any of
//     them starts everything anew, with one exception that loses nothing (harmless).
//   - The queue's end is found by a cookie: a file in a directory of our own gets a
//     new name, and all events before that one have arrived when it arrives. A
//     cookie that doesn't come back in time means lost events.
//   - A rename is two events. If only the first was told when the cookie is back, the
//     old directory is read (which waits for the rename, as both take its lock) and
//     another cookie sent. The old directory is also given as Names.
//   - ENOSPC (fs.inotify.max_user_watches) and whatever else prevents a watch, such
//     as a path longer than PATH_MAX: the directory is polled, and tried again, each
//     PollInterval. Meanwhile no drain is exact.
//
// # Concurrency
//
// A [Watcher] is safe for concurrent use; drains wait for each other. A [Set] is
// not. [Watcher.Run] does the reading and must run while Drain is called. The
// only goroutines besides it are the library's reader and the one for its errors.
//
// # What it does not promise
//
//   - Stores through a writable mapping, libaio writes (io_submit), writes of a loop
//     device into its image, chattr and dedupe give no event at all. [Invisible]
//     names the files of the first two kinds; it leaves out SQLite's X-shm beside
//     X-wal or X, which is rebuilt from the log and not worth keeping.
//   - inotify doesn't know inode numbers of files that are written, but looks them up, where
//     there are several names, as long as the event's name is still there. So of an object
//     with another name in a tree it misses what happens through a hard link in a skipped
//     directory or outside the trees, through one that was made and went again before its
//     events were read, and through a descriptor that was opened by a name that is gone.
//   - What another host does to a network file system: only [Poll] sees that.
//   - A file system mounted inside a tree is not part of it and not watched.
//   - The root directories are kept open: a watched file system can't be unmounted.
//   - Last is when an event was read, not when it happened: never before.
package watch
