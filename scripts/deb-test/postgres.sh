# Sourced by deb-test.sh: PostgreSQL by README.md, then by docs/DATABASES.md, and its
# changes of role under systemd.
# shellcheck shell=bash disable=SC2154

say "PostgreSQL that serves, with its application"
runs slayer 'apt-get install -y postgresql-15'
runs megadeth 'apt-get install -y postgresql-15
systemctl stop postgresql@15-main
mv /var/lib/postgresql/15/main /var/lib/postgresql/15/fresh'
prepared 'runuser -u postgres -- psql -qAtXc'
sql slayer 'CREATE TABLE uploads (name text PRIMARY KEY, sum text)'
in_machine slayer systemctl start sounz

say "README.md: the three commands, on a confined standby"
in_machine megadeth sh -c 'mkdir -p /etc/systemd/system/repld.service.d &&
	sed "s|^ReadWritePaths=.*|ReadWritePaths=/srv/shop /var/lib/postgresql/15|" /usr/share/doc/repld/examples/confined.conf >/etc/systemd/system/repld.service.d/confined.conf &&
	systemctl daemon-reload'
for m in slayer megadeth; do
	listing README.md "## Databases" yaml | configured $m
done
commands=0
while IFS= read -r line; do
	where=${line##*# on }
	case $where in
	'the primary') set -- slayer ;;
	'the standby') set -- megadeth ;;
	both) set -- megadeth slayer ;;
	*) fail "README.md: where does this run? $line" ;;
	esac
	commands=$((commands + 1))
	for m in "$@"; do runs "$m" "${line%%  *# on *}"; done
done < <(section README.md "## Databases" | awk '/three commands/ {on = 1} on && /^    # replctl database status/ {exit} on && /^    /' |
	sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}' -e 's/^    # //')
[ $commands = 3 ] || fail "README.md has $commands commands, not three"
serves slayer
one_instant megadeth slayer "by the three commands"
healthy slayer megadeth

say "back to where it was"
runs megadeth 'systemctl stop repld postgresql@15-main
rm /etc/systemd/system/repld.service.d/confined.conf
systemctl daemon-reload
rm -r /var/lib/repld/groups/shop /var/lib/postgresql/15/main
mv /var/lib/postgresql/15/fresh /var/lib/postgresql/15/main
systemctl start postgresql@15-main'
runs slayer 'systemctl stop repld; rm -r /var/lib/repld/groups/shop; cd /
runuser -u postgres -- psql -qc "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots" -c "DROP OWNED BY repld" -c "DROP ROLE repld"'

documented docs/DATABASES.md "## Set-up"
serves slayer
one_instant megadeth slayer "by docs/DATABASES.md"
healthy slayer megadeth

say "hooks, as docs/DATABASES.md and docs/ROLES.md say; nothing is started at boot"
for m in slayer megadeth; do
	listing docs/DATABASES.md "### Who may start and stop the server" yaml >>"$work/$m/etc/repld/repld.yaml"
	listing docs/ROLES.md "### What hooks may do" js >"$work/$m/etc/polkit-1/rules.d/50-repld.rules"
	runs $m 'echo manual > /etc/postgresql/15/main/start.conf
repld check
systemctl reload repld'
	logged $m 'was read again'
done
roles /var/lib/postgresql/15/main postgresql@15-main
