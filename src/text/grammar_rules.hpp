// A grammar as flat tables: what the GBNF parser makes and the matcher walks.
//
// An alternative is a run of elements that ends in kEnd. Groups and repetitions have become rules of their own
// (x* is R = x R | nothing), so that the matcher knows characters and references only. Read-only once built.
// Errors inside src/text are thrown as GrammarError and caught in grammar.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/format.hpp"

namespace lcrun::text::grammar {

constexpr int kMaxNesting = 256;
constexpr size_t kMaxRules = 10'000;        // that the author wrote
constexpr int64_t kMaxRepetition = 10'000;  // product of nested repetition counts
constexpr size_t kMaxElements = 1'000'000;  // after expansion
constexpr size_t kMaxClasses = 4096;        // distinct stretches of code points
constexpr size_t kMaxSourceBytes = size_t{4} << 20;
constexpr char32_t kLastCodePoint = 0x10FFFF;

struct GrammarError {
  std::string message;
};

template <class... Args>
[[noreturn]] void fail(std::string_view text, const Args&... args) {
  throw GrammarError{format(text, args...)};
}

struct CharRange {
  char32_t first = 0;
  char32_t last = 0;  // inclusive
  bool operator==(const CharRange&) const = default;
};
using CharSet = std::vector<CharRange>;  // ascending, disjoint, not touching

enum class ElementKind : uint8_t { kEnd, kRule, kChars };

struct Element {
  ElementKind kind = ElementKind::kEnd;
  uint32_t value = 0;  // rule, or index of the character set
};

struct Rules {
  std::vector<Element> elements;
  std::vector<std::vector<uint32_t>> alternatives;  // [rule] -> first element of each
  std::vector<CharSet> char_sets;
  uint32_t root = 0;
  // Start of each class of code points that all sets treat alike; ascending, begins with 0.
  std::vector<char32_t> class_starts;
};

CharSet normalized(CharSet set);
CharSet complement(const CharSet& set);
bool contains(const CharSet& set, char32_t cp);

// Throws GrammarError, with line and column where there is a place to name.
Rules parse_gbnf(std::string_view source);

// Refuses left recursion and a root that matches nothing. names: [rule], for the message.
void check_rules(const Rules& rules, const std::vector<std::string>& names);

}  // namespace lcrun::text::grammar
