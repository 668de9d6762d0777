// Pre-tokenizers: how a text is cut into words before byte-pair merges, by the name in tokenizer.ggml.pre.
//
// The published rules are regular expressions. Here a rule is a list of stages, each stage a list of alternatives
// tried in order at every position, as a regular expression's are; what no alternative matches stays together as a
// piece of its own; the pieces of one stage are the texts of the next. An alternative is plain data that a small
// scanner interprets: no back-tracking, no recursion over the text, time linear in it, memory constant.
// Where the reference runtime only approximates a published rule the published one holds, for the model was trained
// with it: case and marks outside ASCII ("gpt-4o", "tekken", "tiny_aya", "youtu", "kimi-k2"), script Han ("kimi-k2"),
// white space inside a range of code points such as U+3000 in deepseek-llm's marks. Digits outside ASCII and the word
// border in "tiny_aya" follow the reference runtime.
// Thread rule: tables are constant; a Scanner belongs to one call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "src/text/unicode.hpp"

namespace lcrun::text {

struct CodeRange {
  uint32_t first;
  uint32_t last;
};
using CodeRanges = std::span<const CodeRange>;  // sorted, disjoint

// A code point belongs if it has a class of `any` and none of `none`, or lies in `also`; never if in `except`.
struct CharSet {
  CharClass any = 0;
  CharClass none = 0;
  CodeRanges also = {};
  CodeRanges except = {};

  bool contains(uint32_t value, CharClass bits) const {
    if ((bits & any) != 0 && (bits & none) == 0) return except.empty() || !in_ranges(except, value);
    return !also.empty() && in_ranges(also, value);
  }
  static bool in_ranges(CodeRanges ranges, uint32_t value);
};

enum class Op : uint8_t {
  kRun,                 // lead? body{min,max} tail{0,tail_max}
  kContraction,         // 's 't 're 've 'm 'll 'd
  kContractionAnyCase,  // the same, ASCII letters of either case
  kLineBreaks,          // \s*[\r\n]+
  kSpacesBeforeText,    // \s+(?!\S)
  kSpacesAtEnd,         // \s+$
  kSpaceCascade,        // \s{512}(?!\S)|\s{256}(?!\S)| ... |\s{4}(?!\S)|\s{1,2}(?!\S)|\s
  kCased,               // lead?upper*body+ | lead?upper+body*, then a contraction if `suffix`
  kSpacedLetters,       // lead?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+
  kDigitGroups,         // a run of body in groups of three, counted from its right end
};

struct Alternative {
  Op op = Op::kRun;
  CharSet lead = {};
  bool lead_required = false;
  CharSet upper = {};
  CharSet body = {};
  uint32_t min_count = 1;
  uint32_t max_count = UINT32_MAX;
  CharClass tail = 0;
  uint32_t tail_max = UINT32_MAX;
  bool suffix = false;
};

using Stage = std::span<const Alternative>;

struct PreTokenizer {
  std::string_view name;
  std::span<const Stage> stages;
  bool ignore_merges = false;       // a word that is a token is taken whole
  bool adds_bos = false;            // unless the file says otherwise
  bool raw_utf8 = false;            // blanks become U+2581 and symbols are code points, not mapped bytes
  bool newline_runs_whole = false;  // a run of line feeds that is a token is taken whole
  bool forces_bos = false;          // whatever the file says
};

// Null when the name is unknown. "" is "default".
const PreTokenizer* find_pre_tokenizer(std::string_view name);

// Pieces longer than this are cut (memory per piece is a multiple of its size).
inline constexpr size_t kMaxPieceBytes = size_t{16} << 20;

// Calls `sink` with each piece, in order; the pieces laid end to end are the text.
void pre_tokenize(std::string_view text, std::span<const Stage> stages,
                  const std::function<void(std::string_view)>& sink);

}  // namespace lcrun::text
