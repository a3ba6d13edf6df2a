#!/bin/bash
# deb-test.sh PACKAGE: two fresh Debian 12 machines, containers with systemd and a wire
# between them, go through the commands of docs/INSTALL.md from the package to a
# replicating pair; then what an administrator may do to it. Trees are compared by
# rsync. As root on Debian; it installs what it needs. A minute, and another one for the first time.
#
# Variables: KEEP=1 leaves the machines' directories      ROOT=TAR the system to start from
#            (default: made from the package sources of this machine, and kept in bin/)
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(realpath "$1")
root_tar=${ROOT:-bin/debian-12.tar}

say() { printf '\n=== %s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*" >&2
	for m in slayer megadeth; do
		echo "--- the log of $m" >&2
		in_machine $m journalctl -u repld --no-pager -o cat -n 30 >&2 || true
	done
	exit 1
}

[ "$(id -u)" = 0 ] || { echo 'deb-test.sh: containers need root' >&2; exit 1; }
missing=
for need in systemd-nspawn:systemd-container mmdebstrap:mmdebstrap ip:iproute2 rsync:rsync nsenter:util-linux mkfs.ext4:e2fsprogs; do
	command -v "${need%:*}" >/dev/null || missing="$missing ${need#*:}"
done
if [ -n "$missing" ]; then
	apt-get update -qq
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

work=$(mktemp -d /var/tmp/repld-deb-test.XXXXXX)
declare -A nspawn init
cleanup() {
	for m in "${!nspawn[@]}"; do
		kill "${nspawn[$m]}" 2>/dev/null || true # asks the machine to shut down
		for _ in $(seq 100); do kill -0 "${nspawn[$m]}" 2>/dev/null || break; sleep 0.1; done
		kill -9 "${nspawn[$m]}" 2>/dev/null || true
		wait "${nspawn[$m]}" 2>/dev/null || true
	done
	for m in slayer megadeth; do
		umount "$work/$m/srv" 2>/dev/null || true
		ip netns del "repld-test-$m" 2>/dev/null || true
	done
	[ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap cleanup EXIT

in_machine() { # MACHINE COMMAND…
	local m=$1
	shift
	nsenter -t "${init[$m]}" -a -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
		DEBIAN_FRONTEND=noninteractive "$@"
}

# until_true SECONDS COMMAND…: polls an observable condition.
until_true() {
	local end=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 0.2
	done
}

if [ ! -s "$root_tar" ]; then
	say "a fresh Debian 12 ($root_tar)"
	mkdir -p "$(dirname "$root_tar")"
	mapfile -t sources < <(grep -ls bookworm /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null)
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,man-db,acl,attr,libcap2-bin \
		bookworm "$root_tar.part" "${sources[@]}"
	mv "$root_tar.part" "$root_tar"
fi

say "two machines"
declare -A address=([slayer]=10.0.0.1 [megadeth]=10.0.0.2)
for m in slayer megadeth; do
	mkdir "$work/$m"
	tar -C "$work/$m" -xf "$root_tar"
	echo $m >"$work/$m/etc/hostname"
	printf '127.0.0.1 localhost\n10.0.0.1 slayer\n10.0.0.2 megadeth\n' >"$work/$m/etc/hosts"
	cp "$package" "$work/$m/root/"
	truncate -s 4G "$work/$m.img"
	mkfs.ext4 -q -m 0 "$work/$m.img"
	mount -o loop "$work/$m.img" "$work/$m/srv"
	ip netns add "repld-test-$m"
done
ip link add eth0 netns repld-test-slayer type veth peer name eth0 netns repld-test-megadeth
for m in slayer megadeth; do
	ip -n "repld-test-$m" addr add "${address[$m]}/24" dev eth0
	ip -n "repld-test-$m" link set eth0 up
	ip -n "repld-test-$m" link set lo up
done
# Under another init than systemd there is neither a scope nor a manager to ask.
how=(--register=no)
[ -d /run/systemd/system ] || how+=(--keep-unit)
for m in slayer megadeth; do
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet "${how[@]}" --directory="$work/$m" --machine="$m" \
		--network-namespace-path="/run/netns/repld-test-$m" --system-call-filter=@known --console=pipe --boot \
		>"$work/$m.console" 2>&1 </dev/null &
	nspawn[$m]=$!
	until_true 30 pgrep -P "${nspawn[$m]}" || fail "$m does not boot: $(tail -n 5 "$work/$m.console")"
	init[$m]=$(pgrep -P "${nspawn[$m]}" | head -n 1)
	until_true 60 in_machine $m sh -c '[ "$(systemctl is-system-running)" = running ]' || fail "$m did not boot"
done

# documented HEADING: runs the blocks of that section of docs/INSTALL.md, in their order.
# TOKEN is what the last block on the standby has printed.
token=
documented() {
	say "docs/INSTALL.md: $1"
	local line where= block= found= m out
	while IFS= read -r line; do
		case $line in
		'```sh both' | '```sh primary' | '```sh standby') where=${line##* } block= ;;
		'```')
			case $where in
			primary) set -- slayer ;;
			standby) set -- megadeth ;;
			both) set -- megadeth slayer ;;
			*) continue ;;
			esac
			found=1
			for m in "$@"; do
				sed "s/^/[$m] # /" <<<"${block%$'\n'}"
				out=$(in_machine "$m" bash -ec "cd /root; ${block//TOKEN/$token}") || fail "on $m:"$'\n'"$block"$'\n'"$out"
				tr '\r' '\n' <<<"$out" | grep -vE '^\(Reading|^Get:|^Need to get|^After this|^Reading|^Building' | tail -n 25 || true
				case $block in *'replctl invite'*) token=$out ;; esac
			done
			where=
			;;
		*) [ -z "$where" ] || block+=$line$'\n' ;;
		esac
	done < <(awk -v want="## $1" '/^## /{on = $0 == want} on' docs/INSTALL.md)
	[ -n "$found" ] || fail "docs/INSTALL.md has no commands under \"$1\""
}

same_trees() {
	in_machine slayer replctl barrier --wait applied --timeout 60s >/dev/null || fail "no barrier is applied: $1"
	local diff
	diff=$(rsync -aHAXSn --numeric-ids --checksum --modify-window=-1 --delete -i "$work/slayer/srv/data/" "$work/megadeth/srv/data/")
	[ -z "$diff" ] || fail "the trees differ, $1:"$'\n'"$diff"
	echo "equal: $1"
}

restarted() { # MACHINE PID: another process than PID answers
	until_true 60 in_machine "$1" sh -c "[ \"\$(systemctl show -P MainPID repld)\" != $2 ] && systemctl is-active -q repld && replctl status" ||
		fail "$1: the daemon did not come back"
}
pid_of() { in_machine "$1" systemctl show -P MainPID repld; }
linked() { until_true 60 in_machine slayer sh -c 'replctl status | grep -q "link up"' || fail "the nodes are not connected"; }
logged() { until_true 20 in_machine "$1" sh -c "journalctl -u repld -o cat --no-pager | grep -qE '$2'" || fail "$1: nothing like \"$2\" in the log"; }

documented "2. The package"
for m in slayer megadeth; do
	[ "$(in_machine $m systemctl is-enabled repld)" = disabled ] && ! in_machine $m systemctl -q is-active repld || fail "$m: the package has started the service"
	in_machine $m systemd-analyze verify repld.service || fail "$m: systemd-analyze verify"
	in_machine $m man -w 8 repld 1 replctl 5 repld.yaml >/dev/null || fail "$m: no manual pages"
	! in_machine $m systemctl start repld 2>/dev/null || fail "$m: it starts without a configuration"
	[ "$(in_machine $m systemctl show -P ExecMainStatus repld)" = 2 ] || fail "$m: without a configuration it ends by another code than 2"
	in_machine $m journalctl -u repld -o cat --no-pager | grep -m 1 'repld.yaml'
	in_machine $m systemctl reset-failed repld
done

documented "4. The configuration"
for m in slayer megadeth; do
	in_machine $m systemctl -q is-active repld || fail "$m: not active"
	modes=$(in_machine $m stat -c '%n %U:%G %a' /etc/repld /etc/repld/repld.yaml /var/lib/repld /run/repld /run/repld/control.sock)
	[ "$modes" = "/etc/repld root:repld 750
/etc/repld/repld.yaml root:repld 640
/var/lib/repld repld:repld 700
/run/repld repld:repld 750
/run/repld/control.sock repld:repld 600" ] || fail "$m: owners and modes are"$'\n'"$modes"
	pid=$(pid_of $m)
	in_machine $m grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$pid/status" | tr -s '\t\n' '  '
	echo
done
in_machine slayer systemd-analyze security --no-pager repld.service | tail -n 1

say "every kind of object, most of it not for the daemon's user"
in_machine slayer bash -e <<'END'
cd /srv/data
mkdir -p a/b closed shared
for f in a/file a/b/acl secret closed/in capable; do echo $f >$f; done
head -c 3000000 /dev/urandom >a/b/large; truncate -s 20M holes; echo end >>holes
ln a/file a/b/hard; ln -s ../file a/b/link; mkfifo fifo; mknod char c 1 3; mknod block b 7 200; cp /bin/true suid
chown -h 1001:2001 . a/b/link secret closed closed/in suid shared fifo char block
chmod 6755 suid; chmod 3777 shared; chmod 0 secret closed closed/in; setcap cap_net_raw+ep capable
setfattr -n user.one -v 1 a/file; setfattr -n trusted.two -v 2 a/file; setfattr -n security.three -v 3 a/file; setfattr -h -n trusted.link -v l a/b/link
setfacl -m u:1234:rw,g:99:r a/b/acl; setfacl -d -m u:1234:rwx shared
touch -h -d '2001-02-03 04:05:06.789012345' a/b/link
END
documented "5. Pairing"
linked
documented "6. Is it right?"
same_trees "as seeded"
in_machine slayer bash -e <<'END'
cd /srv/data
echo more >>secret; mv closed a/moved; rm a/b/hard; chown 4321:4321 capable; chmod 2755 a/b; ln block a/block; mknod a/new c 5 1
setfattr -x security.three a/file; setfacl -b a/b/acl; printf x | dd of=a/b/large bs=1 seek=1000 conv=notrunc status=none
END
same_trees "as changed"
for m in slayer megadeth; do
	in_machine $m replctl status | grep -q '^health  *ok$' || fail "$m: $(in_machine $m replctl status)"
done

documented "Settings while it runs"
logged slayer 'was read again'
pid=$(pid_of slayer)
in_machine slayer sh -c 'cp -p /etc/repld/repld.yaml /root/good && echo "wrong: 1" >>/etc/repld/repld.yaml'
! in_machine slayer repld check || fail "repld check finds nothing wrong with an unknown key"
in_machine slayer systemctl reload repld
logged slayer 'not taken over.*wrong'
in_machine slayer cp -p /root/good /etc/repld/repld.yaml
in_machine slayer systemctl reload repld
[ "$pid" = "$(pid_of slayer)" ] || fail "a reload ended the daemon"

say "killed"
for m in slayer megadeth; do
	pid=$(pid_of $m)
	in_machine $m kill -9 "$pid"
	restarted $m "$pid"
done
linked
same_trees "after SIGKILL on both sides"

say "hanging: the watchdog"
for m in slayer megadeth; do
	in_machine $m mkdir -p /etc/systemd/system/repld.service.d
	printf '[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n' >"$work/$m/etc/systemd/system/repld.service.d/soon.conf"
	in_machine $m systemctl daemon-reload
	in_machine $m systemctl restart repld
	pid=$(pid_of $m)
	in_machine $m kill -STOP "$pid"
	logged $m 'Watchdog timeout'
	restarted $m "$pid"
	in_machine $m rm /etc/systemd/system/repld.service.d/soon.conf
	in_machine $m systemctl daemon-reload
done
linked
same_trees "after SIGSTOP on both sides"

say "drop-ins"
in_machine slayer install -D -m 0644 /usr/share/doc/repld/examples/primary.conf /etc/systemd/system/repld.service.d/primary.conf
in_machine megadeth sh -c 'sed "s|^ReadWritePaths=.*|ReadWritePaths=/srv|" /usr/share/doc/repld/examples/confined.conf >/etc/systemd/system/repld.service.d/confined.conf'
for m in slayer megadeth; do
	in_machine $m systemctl daemon-reload
	in_machine $m systemctl restart repld
done
linked
in_machine slayer sh -c 'cd /srv/data && echo again >>secret && rm -r a/moved && cp -a suid suid2 && mknod a/newer b 7 1'
same_trees "a primary that only reads, and a confined standby"

documented "Upgrading"
linked
same_trees "after an upgrade"

say "removed, installed again"
in_machine slayer apt-get -qq remove -y repld >/dev/null
[ -e "$work/slayer/etc/repld/repld.yaml" ] && [ -e "$work/slayer/var/lib/repld/key.pem" ] || fail "removing took the configuration or the state"
in_machine slayer sh -c 'cd /srv/data && echo meanwhile >secret'
in_machine slayer sh -c 'apt-get -qq install -y /root/repld_*.deb >/dev/null && systemctl enable --now repld'
linked
same_trees "after it was away"

documented "Uninstalling"
for m in slayer megadeth; do
	for path in /etc/repld /var/lib/repld /usr/bin/repld; do
		[ ! -e "$work/$m$path" ] || fail "$m: $path is still there"
	done
	in_machine $m sh -c '! pgrep -x repld && id repld' || fail "$m: the daemon still runs, or its user is gone"
done
diff=$(rsync -aHAXSn --numeric-ids --checksum --delete -i "$work/slayer/srv/data/" "$work/megadeth/srv/data/")
[ -z "$diff" ] || fail "purging changed a tree: $diff"

say "all as docs/INSTALL.md says"
