#!/usr/bin/env bash
# Fuzzes whatever parses, one target after the other.
#
#   scripts/fuzz.sh [SECONDS PER TARGET] [TARGET…]
#
# Wants cargo-fuzz (`cargo install --locked cargo-fuzz`) and a nightly compiler (`rustup toolchain install nightly`),
# which no other task needs. A crash leaves its input in fuzz/artifacts: make a test of it first.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
say() { printf 'fuzz: %s\n' "$*" >&2; }

cargo fuzz --version >/dev/null 2>&1 || { say "no cargo-fuzz: cargo install --locked cargo-fuzz"; exit 1; }
cargo +nightly --version >/dev/null 2>&1 || { say "no nightly compiler: rustup toolchain install nightly"; exit 1; }

targets=("$@")
if [ "${#targets[@]}" = 0 ]; then
  mapfile -t targets < <(cargo +nightly fuzz list)
fi
for target in "${targets[@]}"; do
  say "$target for $seconds s"
  # New inputs go to the first directory; the second holds the kept ones and is only read.
  mkdir -p "fuzz/corpus/$target"
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10
done
