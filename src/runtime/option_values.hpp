// Text to numbers, strictly: the whole text must be a number, in range, with a unit where units make sense.
//
// Tokens: 4096, 64k = 64,000, 1M = 1,000,000 (decimal, as models are advertised), 64Ki = 65,536.
// Bytes: 4096, 4KiB, 1GiB, 1G = 1 GiB (as memory limits are written), 1GB = 10^9.
// Errors are kInvalidArgument and say what was found and what is wanted; the caller adds the option's name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun::runtime {

Result<int64_t> parse_integer(std::string_view text);
Result<int64_t> parse_tokens(std::string_view text);
Result<std::vector<int64_t>> parse_tokens_list(std::string_view text);
Result<int64_t> parse_bytes(std::string_view text);
// Finite numbers only.
Result<double> parse_real(std::string_view text);

// "1.5 GiB", "300 B": for people.
std::string bytes_text(uint64_t bytes);
// "auto, dense" from "auto|dense".
std::string choices_text(std::string_view choices);
// Is `value` one of "a|b|c"?
bool is_choice(std::string_view value, std::string_view choices);

// Number of single-character edits (insert, delete, replace) between two short texts.
size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace lcrun::runtime
