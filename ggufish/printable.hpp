// Text from a model file made safe to show: a name or a value may hold anything, a terminal must not obey it.
//
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lcrun::ggufish {

// Bytes of the UTF-8 code point at the start of `text`; 0 when it is not well formed (overlong, surrogate,
// cut).
size_t utf8_length(std::string_view text);

// Well-formed UTF-8 without control characters (C0, DEL, C1): what a key or a tensor name must be.
bool is_plain_text(std::string_view text);

// `text` with control characters and ill-formed bytes as \n, \t or \xNN, quotes and backslashes escaped, cut
// with
// "..." once `limit_bytes` of output are reached.
std::string printable(std::string_view text, size_t limit_bytes);

// Bytes of a path that a message shows: any path the system can open.
inline constexpr size_t kShownPath = 4096;

// The same in double quotes.
std::string quoted(std::string_view text, size_t limit_bytes = 80);

}  // namespace lcrun::ggufish
