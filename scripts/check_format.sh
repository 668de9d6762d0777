#!/usr/bin/env bash
# Checks that C and C++ files are formatted by .clang-format; with --fix, formats them.
#
# clang-format 14 only: other versions lay the same style out differently. scripts/test.sh installs it from PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

formatter=${CLANG_FORMAT:-}
for candidate in "${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lcrun/venv/bin/clang-format" clang-format-14 clang-format; do
  if [ -z "$formatter" ] && command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
    formatter=$candidate
  fi
done
[ -n "$formatter" ] || { echo "no clang-format 14 found" >&2; exit 77; }

mapfile -t files < <(find src quant ggufish storage include cli plugins bench examples tests \
  \( -name '*.cpp' -o -name '*.hpp' -o -name '*.c' -o -name '*.h' \) -not -path '*/build*' | sort)
if [ "${1:-}" = --fix ]; then
  "$formatter" -i "${files[@]}"
  exit
fi
mapfile -t unformatted < <(printf '%s\0' "${files[@]}" |
  xargs -0 -n 20 -P "$(nproc)" "$formatter" --dry-run 2>&1 |
  sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: warning.*/\1/p' | sort -u)
if [ ${#unformatted[@]} -gt 0 ]; then
  printf '%s: wanted clang-format (scripts/check_format.sh --fix)\n' "${unformatted[@]}"
  exit 1
fi
echo "${#files[@]} files are formatted"
