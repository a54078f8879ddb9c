#!/usr/bin/env bash
# Measures the whole hop through Forge, bare Pingora and nginx (see benches/hop/src/main.rs).
#
#   scripts/bench.sh            every case, 3 rounds: about 15 minutes, and the first build
#   scripts/bench.sh --quick    the cases that tell most: about 1 minute
#   scripts/bench.sh --soak 10  10 minutes of mixed load on Forge: memory, descriptors and counters must be in order
#   scripts/bench.sh --help     all options
#
# Prints a table; leaves it in target/bench/hop.md, and the same as JSON in target/bench/hop.json.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --locked --release --bin forge --target-dir "$target"
cargo build --locked --release --manifest-path benches/hop/Cargo.toml --target-dir "$target"

# 5,000 streams are 10,000 sockets in the gateway and 10,000 in the bench.
ulimit -n 20000

exec "$target/release/hop" --bin "$target/release" "$@"
