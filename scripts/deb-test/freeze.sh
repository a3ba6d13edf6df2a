# Sourced by deb-test.sh: an application that is frozen for barriers, as docs/DATABASES.md
# says. What serves on slayer and is held on megadeth is left so.
# shellcheck shell=bash disable=SC2154

say "an application that is frozen for each barrier"
barrier=$(listing docs/DATABASES.md "### Where the application never rests" yaml | sed 's/optimistic, //')
[ -n "$barrier" ] || fail "docs/DATABASES.md doesn't show how an application is frozen"
for m in slayer megadeth; do
	cp -p "$work/$m/etc/repld/repld.yaml" "$work/$m.yaml"
	sed -i "/^    trees:/i\\
$barrier" "$work/$m/etc/repld/repld.yaml"
done
runs slayer 'repld check
systemctl restart repld'
# The unit has everything mounted read-only there.
until_true 30 in_machine slayer sh -c 'replctl status | grep -q freeze-failed' || fail "slayer: a control group can be frozen without freeze.conf: $(in_machine slayer replctl status)"

three_frozen() { # three barriers, each cut in a freeze
	local new
	new=$(in_machine slayer sh -c 'for i in 1 2 3; do replctl barrier --wait applied || exit 1; done') || return
	for id in $(sort -u <<<"$new"); do
		in_machine megadeth replctl barriers --json | tr '{' '\n' | grep -A2 "\"id\":\"$id\"" | grep -m 1 '"rung":"cgroup","stall_seconds":0\.0' || return
	done >"$work/stalls"
}

# Where this machine is busy a freeze may reach its limit; freezes then pause for a while.
frozen() { # WHAT: the newest barriers are cut in freezes, and the application goes on
	linked
	healthy slayer
	serves slayer
	until_true 60 three_frozen || fail "no three barriers are cut in freezes, $1: $(in_machine megadeth replctl barriers)"
	sed 's/.*"stall_seconds":\([0-9.]*\).*/frozen for \1 s/' "$work/stalls"
	one_instant megadeth slayer "$1"
}
documented docs/DATABASES.md "### Where the application never rests"
frozen "cut in freezes"
runs slayer 'install -D -m 0644 /usr/share/doc/repld/examples/primary.conf /etc/systemd/system/repld.service.d/primary.conf
systemctl daemon-reload && systemctl restart repld'
frozen "by a primary that only reads"
for m in slayer megadeth; do
	cp -p "$work/$m.yaml" "$work/$m/etc/repld/repld.yaml"
	in_machine $m rm -rf /etc/systemd/system/repld.service.d
	in_machine $m sh -c 'systemctl daemon-reload && systemctl restart repld'
done
linked
