#!/usr/bin/env bash
# The one command: builds what a change can break and runs every test. Ends with "N passed, N failed, N skipped".
#
#   scripts/test.sh            everything: release, sanitizers, 64-bit ARM under qemu, checks
#   scripts/test.sh quick      release build, unit tests and checks
#
# Installs what is missing (apt, PyPI) and fetches the two test models; a second run needs no network.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MODE=${1:-full}
[ "$MODE" = full ] || [ "$MODE" = quick ] || die "usage: scripts/test.sh [quick]"
TOTALS=$(mktemp)
trap 'rm -f "$TOTALS"' EXIT
echo 0 0 0 >"$TOTALS"

# run_suites BUILD OPTIONS...: runs tests and adds to the totals; a build that fails counts as one failed test.
run_suites() {
  local status=0
  "$PY" "$ROOT/scripts/run_tests.py" "$@" --totals "$TOTALS" || status=$?
  [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || count_failure "$1 could not be tested"
}

count_failure() {
  echo "FAIL $1"
  awk '{ print $1, $2 + 1, $3 }' "$TOTALS" >"$TOTALS.next" && mv "$TOTALS.next" "$TOTALS"
}

test_release() {
  say "release build"
  configure "$ROOT/build" -Dtests=true
  # -k 0: what does build is still tested.
  ninja -C "$ROOT/build" -k 0 >"$ROOT/build/test-build.log" 2>&1 ||
    { grep -A20 'FAILED' "$ROOT/build/test-build.log" | head -80; count_failure "the release build"; }
  local suites=(--suite checks --suite unit)
  [ "$MODE" = quick ] || suites+=(--suite golden --suite cli)
  # Tests share the cores: their time limits are for one at a time.
  run_suites "$ROOT/build" "${suites[@]}" --jobs "$(nproc)" --scale 3
}

test_sanitized() {
  say "unit tests with AddressSanitizer and UndefinedBehaviorSanitizer"
  # Half of its time is the compiler's: of the debug information the lines alone. Without optimisation the tests take
  # four times as long.
  configure "$ROOT/build-asan" -Doptimization=1 -Ddebug=false -Dcpp_args=-g1 -Db_ndebug=false \
    -Db_sanitize=address,undefined -Db_lundef=false -Dkernels_from=build \
    -Dwerror=false  # gcc warns of its own library there
  ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1 \
    run_suites "$ROOT/build-asan" --suite unit --scale 6 --jobs "$(nproc)"
}

test_aarch64() {
  say "numeric unit tests for 64-bit ARM, under qemu"
  configure "$ROOT/build-aarch64" --cross-file "$ROOT/scripts/cross/aarch64-linux-gnu.ini" -Donly_kernels=true
  run_suites "$ROOT/build-aarch64" --suite unit --wrapper 'qemu-aarch64 -L /usr/aarch64-linux-gnu' --scale 20 \
    --jobs "$(nproc)"
}

# shellcheck disable=SC2086  # lists of words
need_packages $BUILD_PACKAGES $TEST_PACKAGES
# shellcheck disable=SC2086
need_python "$MESON_PIN" $TEST_PINS
for model in smollm2 gemma3; do
  path=$(fetch_model "$model")
  say "model $path"
done

test_release
if [ "$MODE" = full ]; then
  test_sanitized
  test_aarch64
fi
read -r passed failed skipped <"$TOTALS"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
