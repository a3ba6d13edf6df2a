// Package tree is one replicated tree on disk: reading it with everything that a
// file system keeps about an object, and writing it without ever leaving it.
//
// It stands beside the data's way, watch → capture → chunker → journal → ship →
// apply: capture reads the primary's tree through a [Reader]; apply writes the
// standby's through a [Volume].
//
// # What is kept
//
// What rsync -aHAXS --numeric-ids keeps: files, directories, symbolic links, hard
// links (of symbolic links too), FIFOs, device nodes; numeric owners; modes with
// setuid, setgid and sticky; modification times in nanoseconds, before 1970 too,
// of directories and symbolic links too; extended attributes of the user,
// trusted and security namespaces and of file systems (btrfs.compression); POSIX
// ACLs and file capabilities, as the attributes in which the kernel keeps them;
// holes; names of any bytes; paths of any length. Sockets are listed with kind 0
// and not kept. Access times, inode flags (chattr) and creation times are not
// kept either. XFS shows ACLs to root a second time, as trusted.SGI_ACL_FILE and
// trusted.SGI_ACL_DEFAULT; these copies are left out.
//
// # Confinement
//
// Every path is resolved by openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS,
// RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV from a descriptor of the root, and
// the last name is never followed. Paths are [change] paths; one with ".." or an
// empty name is refused before the kernel sees it. So neither a hostile peer nor
// a symbolic link that somebody swaps in for a directory leads outside. Mounts
// and btrfs subvolumes inside the tree are refused with [ErrOtherFS]; the own
// directory (below) with [ErrOwnDir].
//
// # Cached directories
//
// A Reader and a Volume keep descriptors of the directories that they used last
// ([Options].CacheDirs), so that a call costs one or two system calls at any depth. A
// descriptor follows its directory when somebody renames it. Therefore:
//
//   - The user of a Reader calls [Reader.Forget] for a directory that was renamed
//     or replaced (or [Reader.Flush] when in doubt, as a round of a cut does behind each
//     drain that tells of names) before it trusts an answer about what is below that name.
//   - A Volume forgets by itself what it renames or removes. Renames that others
//     make in a standby's tree it can't see: call [Volume.Flush] before a publish.
//   - A directory that was removed, and one that was made again under its name,
//     are noticed by themselves.
//
// # Writing
//
// A [Volume] is the tree and a directory of our own on the same file system
// ("own": staging and salvage, mode 0700), so that rename(2) moves between them:
//
//	<parent>/.repld-<base>   usually
//	<tree>/.repld            where the tree is a mount point or a subvolume, or the
//	                         parent is not writable or on another file system
//	VolumeOptions.Staging    where the operator says
//
// The name ".repld" at the root of a tree is never listed and never replicated
// ([IsOwn]). Once one of the first two exists it is used again, so that a
// publish that was interrupted finds its files after a restart.
//
// Invariants of the write side:
//
//   - Files are created with O_EXCL, mode 0600; nothing is truncated on open.
//   - SetMeta sets owner, mode, extended attributes, times in this order, because
//     chown clears setuid and capabilities and chmod changes an ACL's mask. It must
//     come after the last write to a file: a write clears setuid and capabilities.
//   - What the process may not set (an owner, trusted attributes) is no error: it is
//     returned by name for the operator. If the owner could not be set,
//     setuid and setgid are left off: they would lend the rights of another user.
//   - Sync is syncfs(2) through a descriptor opened before the first write, so
//     that write-back errors show. After a Sync that failed nothing written since the
//     last good one may be trusted; the error isn't reported twice.
//   - A process without CAP_DAC_OVERRIDE may own directories that it can't write or
//     search (0555, 0000). Operations that meet one add u+rwx to it and leave it so:
//     whoever changes a name in a directory sets that directory's metadata
//     afterwards anyway, deepest directories first, because its mtime has changed.
//     Files opened with OpenWrite gain u+rw in the same way. Open adds nothing.
//
// # Concurrency
//
// A [Root] and a [Volume] are safe for concurrent use; a [Reader] is not, take one
// per goroutine. A [File] may be read at several places at once; a [WriteFile] has
// one user. Concurrent operations on one name are as the kernel orders them.
//
// # Cost
//
// In system calls, with the directory cached: Lstat 1; Meta 1 and one for each
// attribute or a link's target; ReadDir 3 and one for each 64 KiB of names; capturing a
// file 6 (openat2, statx, pread, flistxattr, statx, close) and 1 or more for
// Segments; staging one 5 (openat2, pwrite, fchmod, utimensat, close), with a
// chown where the owner isn't ours; Rename 1. For five seconds after many files were removed
// ext4 creates files slowly, because it looks for inodes not recently deleted;
// so stage first and remove last.
//
// # Formats
//
// Two things are kept by others over restarts: the numbers of [Area], and [Root.ID]:
//
//	file system "/" inode "/" birth seconds "." birth nanoseconds (9 digits)
//
// where the file system is its UUID (XFS and others) or the type and f_fsid of
// statfs(2) in hexadecimal (ext4, btrfs). It is compared as a whole.
//
// # What it does not promise
//
// A standby's file system can hold less than the primary's: XFS ends a symbolic
// link at 1,023 bytes (ENAMETOOLONG from Symlink) and a device's minor number at 18
// bits, ext4 an object's attributes at one block (named by SetMeta). An open Root,
// Reader or Volume keeps its file system busy for umount(8).
//
// No consistency between two calls: that is the cut's work in package capture. No
// durability before [Volume.Sync]. Linux 5.8 or newer, 64-bit; with 6.6
// and 6.13 (fchmodat2, setxattrat) it needs no /proc.
package tree
