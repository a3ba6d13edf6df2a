#!/bin/sh
# deb.sh OUTPUT: makes the Debian package in the directory OUTPUT, of the
# programs in bin/ (make build). The same commit and Go toolchain give the same bytes.
#
# Variables: NFPM (nfpm)   DEB_ARCH (default: of the Go toolchain)   DEB_RELEASE (1)   DEB_MAINTAINER
set -eu
cd "$(dirname "$0")/.."
output=$1
GO=${GO:-go}

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
DEB_ARCH=${DEB_ARCH:-$($GO env GOARCH)}
DEB_RELEASE=${DEB_RELEASE:-1}
DEB_MAINTAINER=${DEB_MAINTAINER:-repld maintainers <maintainers@repld.invalid>}
version=$(bin/repld version --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')
# A version before the release sorts before it: 0.1.0-dev is 0.1.0~dev.
DEB_VERSION=$(echo "$version" | tr - '~')
export SOURCE_DATE_EPOCH DEB_ARCH DEB_RELEASE DEB_MAINTAINER DEB_VERSION LC_ALL=C TZ=UTC

stage=bin/deb
rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completion" "$stage/doc" "$output"
cp bin/repld bin/replctl "$stage/"

bin/repld man "$stage/man"
bin/replctl man "$stage/man"
cp packaging/man/* "$stage/man/"
for shell in bash zsh fish; do
	bin/repld completion $shell >"$stage/completion/repld.$shell"
	bin/replctl completion $shell >"$stage/completion/replctl.$shell"
done

cp README.md docs/*.md "$stage/doc/"
cp CHANGELOG.md "$stage/doc/changelog"
cat >"$stage/doc/changelog.Debian" <<END
repld ($DEB_VERSION-$DEB_RELEASE) unstable; urgency=medium

  * Version $version; what changed is in changelog.gz.

 -- $DEB_MAINTAINER  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
gzip -9n "$stage"/man/* "$stage/doc/changelog" "$stage/doc/changelog.Debian"

${NFPM:-nfpm} package --config packaging/nfpm.yaml --packager deb --target "$output"
