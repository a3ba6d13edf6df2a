# Sourced by deb-test.sh: an application with files and a database, and what must be
# true of both at one instant.
# shellcheck shell=bash disable=SC2154

# sounz.service writes a file, then the row that names it, without a pause. It runs
# where repld starts it. SQL in its environment runs a statement.
for m in slayer megadeth; do
	cat >"$work/$m/usr/local/bin/sounz" <<'END'
#!/bin/bash
set -eu
cd /srv/shop/uploads
begin() { run=$(hostname)-$(date +%s); }
begin
for ((i = 0; ; i++)); do
	name=$run-$i
	head -c $((RANDOM % 20000)) /dev/urandom >"$name"
	sum=$(md5sum "$name")
	$SQL "INSERT INTO uploads VALUES ('$name', '${sum%% *}')" || { sleep 1 && begin; } # the server restarts
done
END
	chmod +x "$work/$m/usr/local/bin/sounz"
	printf '[Service]\nWorkingDirectory=/\nEnvironmentFile=/etc/default/sounz\nExecStart=/usr/local/bin/sounz\n' >"$work/$m/etc/systemd/system/sounz.service"
done

# prepared SQL-PROGRAM: what the application runs statements with, on both.
prepared() {
	for m in slayer megadeth; do
		printf 'SQL="%s"\n' "$1" >"$work/$m/etc/default/sounz"
		in_machine "$m" mkdir -p /srv/shop/uploads
	done
}
sql() { in_machine "$1" sh -c ". /etc/default/sounz; cd /; \$SQL \"$2\""; }
rows() { sql "$1" "SELECT count(*) FROM uploads"; }

serves() { # MACHINE: its application writes
	local before
	in_machine "$1" systemctl -q is-active sounz || fail "$1: the application doesn't run"
	before=$(rows "$1")
	until_true 20 sh -c "[ \"\$(nsenter -t ${init[$1]} -a -- sh -c '. /etc/default/sounz; cd /; \$SQL \"SELECT count(*) FROM uploads\"')\" -gt $((before + 10)) ]" ||
		fail "$1: no rows are added to $before"
}

at_gate() { in_machine "$1" sh -c "replctl database status | awk 'NR > 1 && (\$5 != \$6 || \$5 == \"closed\") {exit 1}'"; }

# one_instant STANDBY PRIMARY WHAT: rows and files there belong together, and are at least
# what the primary had before.
one_instant() {
	local least rows alone files=$work/$1/srv/shop/uploads
	least=$(rows "$2")
	in_machine "$2" replctl barrier --wait applied --timeout 60s >/dev/null || fail "no barrier is applied: $3"
	in_machine "$1" replctl pause >/dev/null
	until_true 30 at_gate "$1" || fail "$1: the replica isn't at its gate: $(in_machine "$1" replctl database status)"
	sql "$1" "SELECT concat(sum, '  ', name) FROM uploads" >"$work/rows"
	(cd "$files" && md5sum --quiet -c "$work/rows") || fail "$1: rows without their files, $3"
	rows=$(wc -l <"$work/rows")
	[ "$rows" -ge "$least" ] && [ "$rows" -gt 0 ] || fail "$1: $rows rows, the primary had $least, $3"
	# Each run of the application has one file at most whose row was not yet there.
	alone=$(comm -23 <(find "$files" -type f -printf '%f\n' | sort) <(sed 's/.*  //' "$work/rows" | sort))
	[ -z "$(sed 's/-[0-9]*$//' <<<"$alone" | sort | uniq -d)" ] || fail "$1: files without their rows, $3: $alone"
	in_machine "$1" replctl resume >/dev/null
	in_machine "$2" replctl verify || fail "the trees differ, $3"
	echo "$rows rows and their files are of one instant, $(wc -w <<<"$alone") files of runs that ended: $3"
}

# changed MACHINE COMMAND: a change of roles.
changed() { runs "$1" "time $2"; }

# killed MACHINE UNIT…: their main processes, as if by a loss of power.
killed() {
	local m=$1 pid
	shift
	for pid in $(in_machine "$m" systemctl show -P MainPID "$@"); do
		[ "$pid" = 0 ] || in_machine "$m" kill -9 "$pid"
	done
}

# roles DATA UNIT: changes of role, planned and not, of a server that systemd runs.
roles() {
	runs slayer 'replctl ready'

	say "cutover, and back"
	changed slayer 'replctl cutover --yes'
	! in_machine slayer systemctl -q is-active sounz || fail "the application still runs on slayer"
	serves megadeth
	one_instant slayer megadeth "after the cutover"
	changed slayer 'replctl failback --yes'
	serves slayer
	one_instant megadeth slayer "after the failback"
	healthy slayer megadeth

	say "slayer starts again, its peer is there"
	killed slayer sounz "$2" repld
	until_true 60 in_machine slayer systemctl -q is-active sounz || fail "slayer doesn't serve again: $(in_machine slayer replctl status)"
	serves slayer
	one_instant megadeth slayer "after a restart"

	say "slayer loses its power, and comes back"
	ip -n repld-test-slayer link set eth0 down
	killed slayer sounz "$2" repld
	until_true 30 in_machine megadeth sh -c 'replctl status | grep -q "link down"' || fail "megadeth hears slayer still"
	changed megadeth 'replctl failover --peer-is-down --yes'
	serves megadeth
	ip -n repld-test-slayer link set eth0 up
	until_true 60 in_machine slayer sh -c 'replctl status | grep -q fenced' || fail "slayer isn't fenced: $(in_machine slayer replctl status)"
	runs slayer 'replctl rejoin --yes'
	until_true 60 in_machine slayer sh -c 'replctl database status && systemctl -q is-active '"$2" || fail "slayer has no replica"
	one_instant slayer megadeth "after the rejoin"
	runs slayer 'ls -d '"$1"'.kept-*'
	changed slayer 'replctl failback --yes'
	serves slayer
	one_instant megadeth slayer "after the second failback"
	healthy slayer megadeth
}
