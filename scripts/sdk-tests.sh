#!/usr/bin/env bash
# The official Python SDKs of OpenAI and Anthropic against a running gateway.
#
#   scripts/sdk-tests.sh [PYTEST ARGUMENT…]
#
# Makes a venv in target/sdk-venv when there is none or tests/sdk/requirements.txt changed, builds the debug
# binary, and runs pytest, which starts and ends the gateway by itself (tests/sdk/server.py).
# FORGE_SDK_TARGET=demo runs the suite against the demo provider alone, without a gateway.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/sdk-venv
requirements=tests/sdk/requirements.txt
say() { printf 'sdk-tests: %s\n' "$*" >&2; }

make_venv() {
  rm -rf "$venv"
  mkdir -p target
  python3 -m venv "$venv" >&2 && return
  # Debian's python3 without python3-venv has no ensurepip; virtualenv brings its own pip.
  say "python3 cannot make a venv by itself; trying virtualenv"
  rm -rf "$venv"
  python3 -m pip install --quiet --disable-pip-version-check --target target/virtualenv virtualenv >&2
  PYTHONPATH=target/virtualenv python3 -m virtualenv --quiet "$venv" >&2
}

if ! cmp --silent "$requirements" "$venv/requirements.installed"; then
  say "installing the SDKs into $venv"
  make_venv || { say "no venv: install python3-venv, or run scripts/setup.sh sdk"; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/requirements.installed"
fi

if [ "${FORGE_SDK_TARGET:-gateway}" = demo ]; then
  cargo build --locked --example demo
else
  cargo build --locked --bin forge
fi
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m pytest tests/sdk -q -p no:cacheprovider "$@"
