#!/bin/sh
# Repeats the tests that make up their input (models, stress, crashes) until the
# time is over:
#   soak.sh [SECONDS|30m|2h] [PACKAGES]
# Each round draws new seeds; a failure prints its own and ends the soak.
set -eu
cd "$(dirname "$0")/.."
case ${1:-30m} in
*h) seconds=$((${1%h} * 3600)) ;;
*m) seconds=$((${1%m} * 60)) ;;
*) seconds=${1%s} ;;
esac
end=$(($(date +%s) + seconds)) round=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
while [ "$(date +%s)" -lt "$end" ]; do
	round=$((round + 1))
	# The length of the tests that know one; five minutes at most, so that seeds change.
	left=$((end - $(date +%s)))
	export REPLD_SOAK="$((left < 300 ? left : 300))s"
	echo "== round $round, $(date -u +%FT%TZ), $((end - $(date +%s))) s left"
	# shellcheck disable=SC2086
	go test -race -count=1 -p 1 -timeout 1h -run 'Model|Stress|Random|Crash|Kill|Soak' ${2:-./...} >"$log" 2>&1 ||
		{ cat "$log"; echo "soak: failed in round $round" >&2; exit 1; }
	grep -v -e 'no test files' -e 'no tests to run' "$log" || true
done
echo "soak: $round rounds in $seconds s, no failure"
