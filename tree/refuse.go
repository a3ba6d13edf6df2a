package tree

import "golang.org/x/sys/unix"

// Magic numbers of statfs(2) that x/sys doesn't have.
const (
	lustreMagic = 0x0bd00bd0
	gpfsMagic   = 0x47504653
	gfs2Magic   = 0x01161970
	beegfsMagic = 0x19830326
	panfsMagic  = 0xaad7aaea
	vboxsfMagic = 0x786f4256
	vmhgfsMagic = 0xbacbacbc

	configfsMagic   = 0x62656570
	fusectlMagic    = 0x65735543
	mqueueMagic     = 0x19800202
	rpcPipeMagic    = 0x67596969
	functionfsMagic = 0xa647361
)

// refusedFS returns why a tree on a file system of this type (f_type) is refused,
// with its name, or nil.
func refusedFS(fsType int64) (name string, why error) {
	if name, ok := pseudoFS[uint32(fsType)]; ok {
		return name, ErrPseudoFS
	}
	switch uint32(fsType) {
	case unix.NFS_SUPER_MAGIC:
		return "nfs", ErrNetworkFS
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "cifs", ErrNetworkFS
	case unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC:
		return "afs", ErrNetworkFS
	case unix.CODA_SUPER_MAGIC:
		return "coda", ErrNetworkFS
	case unix.NCP_SUPER_MAGIC:
		return "ncpfs", ErrNetworkFS
	case unix.V9FS_MAGIC:
		return "9p", ErrNetworkFS
	case vboxsfMagic:
		return "vboxsf", ErrNetworkFS
	case vmhgfsMagic:
		return "vmhgfs", ErrNetworkFS
	case unix.FUSE_SUPER_MAGIC:
		return "fuse", ErrFUSE
	case unix.CEPH_SUPER_MAGIC:
		return "ceph", ErrClusterFS
	case unix.OCFS2_SUPER_MAGIC:
		return "ocfs2", ErrClusterFS
	case gfs2Magic:
		return "gfs2", ErrClusterFS
	case lustreMagic:
		return "lustre", ErrClusterFS
	case gpfsMagic:
		return "gpfs", ErrClusterFS
	case beegfsMagic:
		return "beegfs", ErrClusterFS
	case panfsMagic:
		return "panfs", ErrClusterFS
	}
	return "", nil
}

// pseudoFS are file systems that hold no files: the kernel makes up what is read there.
var pseudoFS = map[uint32]string{
	unix.PROC_SUPER_MAGIC:     "proc",
	unix.SYSFS_MAGIC:          "sysfs",
	unix.CGROUP_SUPER_MAGIC:   "cgroup",
	unix.CGROUP2_SUPER_MAGIC:  "cgroup2",
	unix.DEVPTS_SUPER_MAGIC:   "devpts",
	unix.DEBUGFS_MAGIC:        "debugfs",
	unix.TRACEFS_MAGIC:        "tracefs",
	unix.SECURITYFS_MAGIC:     "securityfs",
	unix.SELINUX_MAGIC:        "selinuxfs",
	unix.SMACK_MAGIC:          "smackfs",
	unix.AAFS_MAGIC:           "apparmorfs",
	unix.BPF_FS_MAGIC:         "bpf",
	unix.PSTOREFS_MAGIC:       "pstore",
	unix.EFIVARFS_MAGIC:       "efivarfs",
	unix.BINFMTFS_MAGIC:       "binfmt_misc",
	unix.BINDERFS_SUPER_MAGIC: "binder",
	unix.RDTGROUP_SUPER_MAGIC: "resctrl",
	unix.XENFS_SUPER_MAGIC:    "xenfs",
	unix.OPENPROM_SUPER_MAGIC: "openpromfs",
	unix.HUGETLBFS_MAGIC:      "hugetlbfs",
	unix.NSFS_MAGIC:           "nsfs",
	configfsMagic:             "configfs",
	fusectlMagic:              "fusectl",
	mqueueMagic:               "mqueue",
	rpcPipeMagic:              "rpc_pipefs",
	functionfsMagic:           "functionfs",
}

const (
	refusedHint = "changes that other hosts make there can't be watched; replicate the tree on the machine that holds its disk"
	pseudoHint  = "the kernel makes up what is read there: name a directory that is on a disk"
)
