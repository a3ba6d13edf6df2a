# Sourced by deb-test.sh: the end of docs/INSTALL.md.
# shellcheck shell=bash disable=SC2154

documented docs/INSTALL.md "## Uninstalling"
for m in slayer megadeth; do
	for path in /etc/repld /var/lib/repld /usr/bin/repld; do
		[ ! -e "$work/$m$path" ] || fail "$m: $path is still there"
	done
	in_machine $m sh -c '! pgrep -x repld && id repld' || fail "$m: the daemon still runs, or its user is gone"
done
diff=$(rsync -aHAXSn --numeric-ids --checksum --delete -i "$work/slayer/srv/data/" "$work/megadeth/srv/data/")
[ -z "$diff" ] || fail "purging changed a tree: $diff"
