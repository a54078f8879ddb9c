#!/usr/bin/env bash
# Installs what a build, the SDK tests or the bench need and the machine lacks. Says what it does, does
# nothing when nothing is missing, and asks no question.
#
#   scripts/setup.sh build    Rust and a C compiler are expected; cmake is installed
#   scripts/setup.sh sdk      Python is expected; venv support is installed
#   scripts/setup.sh databases  Postgres and Redis are installed; the tests start servers of their own
#   scripts/setup.sh s3       moto, an S3 server that checks signatures, is installed into target/tools
#   scripts/setup.sh bench    nginx is installed
#   scripts/setup.sh fuzz     a C++ compiler, which libFuzzer is built with, is installed
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools
say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the prefix that makes apt-get work; fails when this machine has none.
as_root() {
  if [ "$(id -u)" = 0 ]; then echo env; elif have sudo && sudo -n true 2>/dev/null; then echo sudo -n; else return 1; fi
}

# apt PACKAGE…: installs Debian packages; fails when that is not possible here.
apt() {
  local root
  have apt-get && root=$(as_root) || return 1
  say "installing $* with apt-get"
  local get=($root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o=Dpkg::Use-Pty=0)
  # An image without package lists needs them first; one that has them is tried as it is.
  "${get[@]}" install -y --no-install-recommends "$@" >&2 2>/dev/null && return
  "${get[@]}" update >&2 || say "apt-get update failed; trying with what there is"
  "${get[@]}" install -y --no-install-recommends "$@" >&2
}

# pip PACKAGE…: installs Python packages into target/tools, a venv of our own.
pip() {
  have python3 || return 1
  if [ ! -x "$tools/bin/pip" ]; then
    python3 -m venv "$tools" >&2 || return 1
  fi
  say "installing $* into $tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
}

build() {
  have cargo || die "no cargo: install Rust 1.95 or later, https://rustup.rs"
  have cc || apt gcc libc6-dev || die "no C compiler: install gcc"
  have cmake || apt cmake || pip cmake || die "no cmake, and neither apt-get nor pip can install it"
}

sdk() {
  have python3 || apt python3 || die "no python3, which the SDK tests need"
  # Debian ships venv without pip's bundle unless python3-venv is there.
  python3 -c 'import ensurepip' 2>/dev/null || apt python3-venv || die "python3 cannot make a venv: install python3-venv"
}

databases() {
  have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || apt postgresql ||
    die "no Postgres, which the stores' tests start: install postgresql"
  have redis-server || apt redis-server || die "no Redis, which the limits' tests start: install redis-server"
}

s3() {
  sdk
  [ -x "$tools/bin/moto_server" ] || pip "moto[server,s3]==5.2.5" || die "no moto, which the tests of files in a bucket start"
}

bench() {
  have nginx || [ -x /usr/sbin/nginx ] || apt nginx-light || apt nginx || die "no nginx, which the bench compares with"
}

fuzz() {
  have c++ || apt g++ || die "no C++ compiler: install g++"
}

for part in "${@:-build}"; do
  case "$part" in
    build | sdk | databases | s3 | bench | fuzz) "$part" ;;
    *) die "unknown part '$part': build, sdk, databases, s3, bench or fuzz" ;;
  esac
done
