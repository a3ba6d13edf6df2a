#!/bin/sh
# Fetches a MySQL server for the tests, without installing it: from the suite of Debian
# that has one, by the mirror that apt is configured with, checked by apt's keys. Its
# programs run with their own libraries, by wrappers, whose directory is written to
# standard output; it goes into REPLD_MYSQL. What was fetched is kept in DIR.
#
#   scripts/mysql.sh DIR [SUITE]
set -eu
dir=$(mkdir -p "$1" && cd "$1" && pwd)
suite=${2:-sid}
if [ -x "$dir/bin/mysqld" ]; then
	echo "$dir/bin"
	exit 0
fi
command -v apt-get >/dev/null || { echo "needs apt-get: have MySQL's programs in a directory and say make mysql MYSQL=DIR" >&2; exit 1; }
arch=$(dpkg --print-architecture)
# shellcheck disable=SC2016 # they are apt's
mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
	awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }')
[ -n "$mirror" ] || { echo "apt has no mirror of Debian: run apt-get update first" >&2; exit 1; }

apt=$dir/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$dir/root" "$dir/bin"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
get() {
	apt-get -qq -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
		-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Debug::NoLocking=true "$@" >&2
}
get update
get install -y --download-only mysql-server-core mysql-client-core
for package in "$apt"/cache/archives/*.deb; do
	dpkg-deb -x "$package" "$dir/root"
done
rm -rf "$apt"

libraries=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
loader=$(find "$dir/root" -name 'ld-linux*.so.*' | head -n 1)
[ -n "$loader" ] || { echo "no loader of $arch in $dir/root" >&2; exit 1; }
wrap() { # PROGRAM PATH OPTIONS
	cat >"$dir/bin/$1.new" <<-X
		#!/bin/sh
		exec '$loader' --library-path '$dir/root/usr/lib/$libraries' '$dir/root/$2' "\$@" $3
	X
	chmod +x "$dir/bin/$1.new"
	mv "$dir/bin/$1.new" "$dir/bin/$1"
}
wrap mysqladmin usr/bin/mysqladmin ''
wrap mysql usr/bin/mysql ''
share="'$dir/root/usr/share/mysql'"
wrap mysqld usr/sbin/mysqld "--basedir='$dir/root/usr' --plugin-dir='$dir/root/usr/lib/mysql/plugin' --lc-messages-dir=$share --character-sets-dir=$share/charsets"
chmod -R go+rX "$dir" # servers run as another user
echo "$dir/bin"
