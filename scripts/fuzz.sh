#!/bin/sh
# Runs every fuzz target of the module for a while, one after the other:
#   fuzz.sh [TIME]        for each target, 10s by default
# What a target finds is kept by the go tool in its package's testdata/fuzz, where
# the normal tests run it from then on.
set -eu
cd "$(dirname "$0")/.."
time=${1:-10s}
failed= count=0
for file in $(git ls-files --cached --others --exclude-standard '*_test.go' | sort); do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		count=$((count + 1))
		echo "== $(dirname "$file") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" || failed="$failed $target"
	done
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
echo "$count fuzz targets, $time each: nothing found"
