// JSON schema (draft 2020-12, the subset of docs/formats.md) to GBNF text.
//
// Every text of the grammar is valid under the schema; the grammar may hold less than the schema allows (no further
// properties unless asked for, a fixed order of properties). A keyword that we cannot honour is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lcrun::text::grammar {

// Throws GrammarError with the JSON pointer of what is not supported.
std::string schema_to_gbnf(std::string_view schema_json);

// The JSON string literals (quotes included) whose value matches a regular expression, as a GBNF expression.
// Subset: literals, classes, . \d \w \s, groups, | * + ? {m,n}, ^ at the start and $ at the end. `where` for errors.
std::string regex_to_gbnf(std::string_view pattern, std::string_view where);

// Decimal integers from `least` to `most` (absent = no bound) as a GBNF expression; at most 18 digits.
std::string integer_range(std::optional<int64_t> least, std::optional<int64_t> most);
// Decimal numbers, fractions included, between two integers (inclusive).
std::string number_range(std::optional<int64_t> least, std::optional<int64_t> most);

// `text` as a GBNF literal.
std::string literal(std::string_view text);

}  // namespace lcrun::text::grammar
