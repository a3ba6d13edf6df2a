#!/bin/sh
# Sees to the programs that the tests use. As root on Debian it installs what is
# missing; elsewhere it says what to install, and the tests that need it are
# skipped (with CI=true they fail).
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=
need() { # PACKAGE COMMAND
	command -v "$2" >/dev/null 2>&1 || missing="$missing $1"
}
need gcc gcc # the race detector is linked by it
need git git
need rsync rsync
need acl setfacl
need attr setfattr
need libcap2-bin setcap
need e2fsprogs mkfs.ext4
need xfsprogs mkfs.xfs
need btrfs-progs mkfs.btrfs
need mount mount
need iproute2 ip
[ -d /usr/lib/postgresql ] || need postgresql postgres # its programs are not in the PATH
need mariadb-server-core mariadbd
need mariadb-client mariadb-admin
need mariadb-backup mariadb-backup
need dbus-daemon dbus-daemon
need etcd-server etcd
need redis-server redis-server
need curl curl
if command -v gcc >/dev/null 2>&1 && ! echo '#include <stdlib.h>' | gcc -E - >/dev/null 2>&1; then
	missing="$missing libc6-dev"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	case $missing in *gcc*) missing="$missing libc6-dev" ;; esac
	echo "installing what the tests need:$missing"
	export DEBIAN_FRONTEND=noninteractive
	# The tests start their own servers; the package need not.
	case $missing in *postgresql*)
		mkdir -p /etc/postgresql-common/createcluster.d
		echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/no-main-cluster.conf ;;
	esac
	apt-get update -qq
	# shellcheck disable=SC2086
	exec apt-get install -y -qq --no-install-recommends $missing
fi
echo "the tests need more than is here; by their Debian names:$missing" >&2
echo "install them, for example: sudo apt-get install$missing" >&2
case $missing in *gcc*) echo "without gcc there is no race detector, and no test runs" >&2; exit 1 ;; esac
