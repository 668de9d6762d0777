#!/usr/bin/env bash
# The King James Bible as plain text, one verse a line without its mark: 4.1 MB, about a million tokens.
#
#   scripts/make_kjv.sh kjv.txt     then: lcrun eval passkey --haystack kjv.txt ...
#
# From Debian's package bible-kjv (public domain), which is installed if it is missing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || die "usage: $0 FILE"
need_packages bible-kjv
# -f, away from a terminal: "Ge1:1 In the beginning ...", a verse a line.
bible -f gen1:1-rev22:21 </dev/null | sed 's/^[^ ]* //' >"$1.partial"
sum=$(sha256sum "$1.partial" | cut -d ' ' -f 1)
[ "$sum" = b5c4940bcfeee072c0935b5200d0f9d88a00a0199cb0961d16133458fcdfae5d ] ||
  die "$1.partial: found sha256 $sum, another text than the figures in docs/ were made with"
mv "$1.partial" "$1"
say "$1: $(wc -l <"$1") verses, $(wc -c <"$1") bytes"
