# Sourced by deb-test.sh: MariaDB by docs/DATABASES.md, and its changes of role under
# systemd.
# shellcheck shell=bash disable=SC2154

say "MariaDB that serves, with its application; the group is another one than before"
for m in slayer megadeth; do
	in_machine $m sh -c 'systemctl stop sounz repld; rm -rf /srv/shop/uploads/* /var/lib/repld/groups/shop /etc/systemd/system/repld.service.d'
done
runs slayer 'apt-get install -y mariadb-server mariadb-backup'
prepared 'mariadb -Nse'
sql slayer 'CREATE DATABASE shop; CREATE TABLE shop.uploads (name varchar(100) PRIMARY KEY, sum text)'
prepared 'mariadb -D shop -Nse'
in_machine slayer sh -c 'systemctl daemon-reload; systemctl start sounz'

documented docs/DATABASES.md "### Set-up"
serves slayer
one_instant megadeth slayer "MariaDB by docs/DATABASES.md"
healthy slayer megadeth

say "hooks as docs/DATABASES.md says, for mariadb"
for m in slayer megadeth; do
	listing docs/DATABASES.md "### Who may start and stop the server" yaml | sed 's/postgresql@15-main/mariadb/' >>"$work/$m/etc/repld/repld.yaml"
	listing docs/ROLES.md "### What hooks may do" js >"$work/$m/etc/polkit-1/rules.d/50-repld.rules"
	runs $m 'systemctl disable mariadb
repld check
systemctl reload repld'
	logged $m 'was read again'
done
roles /var/lib/mysql mariadb
