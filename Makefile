# The tasks of this repository. `make help` lists them; CI runs only `make check` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What scripts/setup.sh installs when the system has no package manager we may use.
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

# `make run ARGS="--routes my.yaml"` passes arguments on.
ARGS ?=
SOAK_MINUTES ?= 10
# Seconds each fuzz target runs for.
FUZZ_SECONDS ?= 60

.PHONY: help setup run release test check fmt bench soak fuzz

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing (cmake); quick when nothing is
	@scripts/setup.sh build

# The profile `quick` is a release build without link-time optimisation: minutes less to build, and only
# some per cent slower. `make release` builds what to deploy.
run: setup ## Build and start Forge, on routes.yaml
	cargo build --locked --profile quick --bin forge
	@exec target/quick/forge run $(ARGS)

release: setup ## Build target/release/forge, the binary to deploy
	cargo build --locked --release --bin forge

check: setup ## Everything that can be said without running: format, lints, docs, licences, architecture
	cargo fmt --all --check
	cargo fmt --manifest-path benches/hop/Cargo.toml --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check licenses bans sources; \
	 else echo "cargo-deny is not installed: tests/licences.rs checks deny.toml's licences, bans and sources"; fi
	cargo test --locked --quiet --test architecture --test licences

test: setup ## All tests: units, both stores, whole gateway over sockets, the official Python SDKs
	@scripts/setup.sh sdk databases s3
	cargo test --locked
	scripts/sdk-tests.sh

fmt: ## Format the code
	cargo fmt --all

bench: setup ## Measure the whole hop against bare Pingora and nginx; prints a table, writes JSON
	@scripts/setup.sh bench
	scripts/bench.sh

soak: setup ## SOAK_MINUTES (default 10) of mixed load: memory flat, no descriptor lost, counters add up
	scripts/bench.sh --soak $(SOAK_MINUTES)

fuzz: setup ## Fuzz whatever parses, FUZZ_SECONDS each (default 60)
	@scripts/setup.sh fuzz
	scripts/fuzz.sh $(FUZZ_SECONDS)
