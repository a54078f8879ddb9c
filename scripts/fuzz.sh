#!/usr/bin/env bash
# Fuzzes whatever parses, one target after the other, from the seeds of fuzz/seeds.
#
#   scripts/fuzz.sh [SECONDS PER TARGET] [TARGET…]
#
# Builds with the compiler that builds Forge. The usual tool, cargo-fuzz, adds the address sanitizer, which wants a
# nightly compiler; in code without `unsafe` there is little for it to find. A crash leaves its input in
# fuzz/artifacts/TARGET: make a test of it first.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ "${#targets[@]}" = 0 ]; then
  mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | grep -vx forge-fuzz)
fi

# What libFuzzer needs to see which way the code went; as cargo-fuzz sets it.
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# Naming the host keeps these flags from build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --manifest-path fuzz/Cargo.toml --target-dir target/fuzz --target "$host"

for target in "${targets[@]}"; do
  printf 'fuzz: %s for %s s\n' "$target" "$seconds" >&2
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target" "fuzz/seeds/$target"
  "target/fuzz/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target"
done
