#!/bin/bash
# deb-test.sh PACKAGE: two fresh Debian 12 machines, containers with systemd and a wire
# between them, go through the commands of docs/INSTALL.md from the package to a
# replicating pair, then through those for databases of README.md and
# docs/DATABASES.md, and what an administrator may do to it all. As root on Debian; it
# installs what it needs. Five minutes, and two more for the first time.
#
# Variables: PARTS="install postgres freeze mariadb uninstall"   those that run
#            ROOT=TAR   the system to start from (default: made from the package
#                       sources of this machine, and kept in bin/)
#            KEEP=1     leaves the machines' directories
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(realpath "$1")
root_tar=${ROOT:-bin/debian-12-packages.tar}
PARTS=${PARTS:-install postgres freeze mariadb uninstall}

. scripts/deb-test/machines.sh
case " $PARTS " in *' install '*) ;; *)
	documented docs/INSTALL.md "## 2. The package"
	documented docs/INSTALL.md "## 4. The configuration"
	documented docs/INSTALL.md "## 5. Pairing"
	;;
esac
case " $PARTS " in *' postgres '* | *' freeze '* | *' mariadb '*) . scripts/deb-test/application.sh ;; esac
for part in $PARTS; do
	# shellcheck disable=SC1090
	. "scripts/deb-test/$part.sh"
done
say "all as the documents say: $PARTS"
