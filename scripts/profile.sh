#!/usr/bin/env bash
# Shows where a gateway's CPU time goes in one case of the bench.
#
#   scripts/profile.sh CASE GATEWAY [perf|strace]    e.g.  scripts/profile.sh "1 KiB, model first" forge perf
#
# perf:   samples call stacks into target/bench/perf.data and prints the heaviest functions. Wants symbols:
#         CARGO_PROFILE_RELEASE_DEBUG=line-tables-only scripts/profile.sh …
# strace: counts system calls; divide by the requests the bench prints.
set -euo pipefail
cd "$(dirname "$0")/.."

case=${1:?a case, e.g. "1 KiB, model first"} gateway=${2:?forge, bare, bare-mimalloc or nginx} tool=${3:-perf}
samples=target/bench/perf.data
mkdir -p target/bench
case $tool in
    perf) attach="perf record --quiet -e cpu-clock -F 4999 -g -o $samples -p" ;;
    strace) attach="strace -c -f -o target/bench/strace.txt -p" ;;
    *) echo "perf or strace, not $tool" >&2; exit 2 ;;
esac

scripts/bench.sh --case "$case" --gateways "$gateway" --rounds 1 --seconds 5 --attach "$attach"
case $tool in
    perf) perf report --stdio --no-children -g none --percent-limit 0.5 -i "$samples" ;;
    strace) cat target/bench/strace.txt ;;
esac
