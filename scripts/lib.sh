# Shared by the shell scripts of this folder (sourced, never run): what the machine lacks is installed here.
#
# Every helper first looks whether there is anything to do, so that a second run needs no network. Only apt and
# PyPI are used. All messages go to stderr: stdout belongs to the program that runs in the end.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE_DIR=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lcrun
VENV=$CACHE_DIR/venv
PY=$VENV/bin/python
export LCRUN_MODEL_DIR=${LCRUN_MODEL_DIR:-$CACHE_DIR/models}

# Pinned: a build must not change because a registry did.
MESON_PIN=meson==1.12.1
TEST_PINS="pytest==9.2.0 clang-format==14.0.6"

# What the engine is built from, and what its tests need on top.
BUILD_PACKAGES="g++ ninja-build pkg-config python3 python3-venv ca-certificates
  nlohmann-json3-dev libcli11-dev libxxhash-dev libutf8proc-dev libpcre2-dev libedit-dev libpng-dev libxsimd-dev
  liburing-dev"
TEST_PACKAGES="git catch2 librapidcheck-dev binutils g++-aarch64-linux-gnu qemu-user valgrind"

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Installs the Debian packages in "$@" that are missing; asks dpkg first, and apt only if one is.
need_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: expecting these to be there: $*"; return 0; }
  local missing=() package sudo=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${#missing[@]} packages: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these packages are missing and there is neither root nor sudo: ${missing[*]}"
    sudo=(sudo)
  fi
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q update >&2 || die "apt-get update failed"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get install failed: ${missing[*]}"
}

# Installs the pinned Python packages in "$@" (name==version) into our virtual environment, where they are missing.
need_python() {
  if [ ! -x "$PY" ]; then
    say "creating a Python environment in $VENV"
    mkdir -p "$CACHE_DIR"
    rm -rf "$VENV"
    python3 -m venv "$VENV" >&2 || die "python3 -m venv failed"
  fi
  local missing=() pin
  for pin in "$@"; do
    "$PY" -c 'import sys, importlib.metadata as m; n, v = sys.argv[1].split("=="); sys.exit(m.version(n) != v)' \
      "$pin" 2>/dev/null || missing+=("$pin")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing from PyPI: ${missing[*]}"
  "$PY" -m pip install -q --disable-pip-version-check "${missing[@]}" >&2 || die "pip install failed: ${missing[*]}"
}

# configure DIR OPTIONS...: sets a build folder up; anew if that failed before or the options are others now.
configure() {
  local dir=$1 stamp=$1/lcrun-options.txt
  shift
  if [ -f "$dir/build.ninja" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$*" ]; then return; fi
  say "configuring $dir"
  local again=()
  [ ! -f "$dir/meson-private/coredata.dat" ] || again=(--reconfigure)
  (cd "$ROOT" && "$VENV/bin/meson" setup "${again[@]}" "$dir" "$@" >&2) || die "meson setup $dir failed"
  echo "$*" >"$stamp"
}

# fetch_model NAME: prints the path of the cached file; downloads and checks it first where it is missing.
fetch_model() {
  "$PY" "$ROOT/scripts/fetch_model.py" "$1" "$LCRUN_MODEL_DIR" || die "could not fetch the model $1"
}
