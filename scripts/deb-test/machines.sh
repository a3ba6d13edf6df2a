# Sourced by deb-test.sh: the two machines, and how commands get into them.
# shellcheck shell=bash disable=SC2154

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

archives='polkitd postgresql-15 mariadb-server mariadb-backup'
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
	# What the documents have installed lies there as packages: the machines have no way out.
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,man-db,acl,attr,libcap2-bin \
		--skip=cleanup/apt --customize-hook="APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-get -qq -o APT::Install-Recommends=yes install -y --download-only $archives" \
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

# section FILE HEADING: the text under a heading, given with its marks ("## Set-up"),
# up to the next one of its level or above.
section() {
	awk -v want="$2" '
		/^```/ {code = !code}
		!code && /^#+ / {
			if ($0 == want) {on = length($1); next}
			if (on && length($1) <= on) on = 0
		}
		on' "$1"
}

# listing FILE HEADING INFO: the first block there that is marked so, without the marks.
listing() {
	section "$1" "$2" | awk -v want="\`\`\`$3" '$0 == want && !done {on = 1; next} /^```/ && on {on = 0; done = 1} on'
}

# configured MACHINE: standard input becomes the configuration; it is the primary's.
configured() {
	local designated=primary
	[ "$1" = slayer ] || designated=secondary
	sed "s/^designated: primary/designated: $designated/" >"$work/$1/etc/repld/repld.yaml"
}

# runs MACHINE COMMANDS: as root's shell would; what it says is shown, and in $said.
said=
runs() {
	sed "s/^/[$1] # /" <<<"${2%$'\n'}"
	said=$(in_machine "$1" bash -ec "cd /root; $2") || fail "on $1:"$'\n'"$2"$'\n'"$said"
	tr '\r' '\n' <<<"$said" |
		grep -vE '^\(Reading|^Get:|^Need to get|^After this|^Reading|^Building|^Preparing|^Selecting|^Unpacking|^Setting up|^Processing' | tail -n 25 || true
}

# documented FILE HEADING: runs the blocks of that section in their order, and takes a
# block "yaml both" for the configuration. TOKEN is what the standby's invitation was.
token=
documented() {
	say "$1: ${2##*# }"
	local line where= block= found= m
	while IFS= read -r line; do
		case $line in
		'```sh both' | '```sh primary' | '```sh standby' | '```yaml both') where=${line#???} block= ;;
		'```')
			found+=${where:+1}
			case $where in
			'sh primary') set -- slayer ;;
			'sh standby') set -- megadeth ;;
			*' both') set -- megadeth slayer ;;
			*) continue ;;
			esac
			for m in "$@"; do
				if [ "${where% *}" = yaml ]; then
					configured "$m" <<<"$block"
					continue
				fi
				runs "$m" "${block//TOKEN/$token}"
				case $block in *'replctl invite'*) token=$said ;; esac
			done
			where=
			;;
		*) [ -z "$where" ] || block+=$line$'\n' ;;
		esac
	done < <(section "$1" "$2")
	[ -n "$found" ] || fail "$1 has no commands under \"$2\""
}

restarted() { # MACHINE PID: another process than PID answers
	until_true 60 in_machine "$1" sh -c "[ \"\$(systemctl show -P MainPID repld)\" != $2 ] && systemctl is-active -q repld && replctl status" ||
		fail "$1: the daemon did not come back"
}
pid_of() { in_machine "$1" systemctl show -P MainPID repld; }
linked() { until_true 60 in_machine slayer sh -c 'replctl status | grep -q "link up"' || fail "the nodes are not connected"; }
logged() { until_true 20 in_machine "$1" sh -c "journalctl -u repld -o cat --no-pager | grep -qE '$2'" || fail "$1: nothing like \"$2\" in the log"; }
healthy() { # MACHINE…
	local m
	for m in "$@"; do
		until_true 30 in_machine "$m" sh -c "replctl status | grep -q '^health  *ok$'" || fail "$m: $(in_machine "$m" replctl status)"
	done
}
