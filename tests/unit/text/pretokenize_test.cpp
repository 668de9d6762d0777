// Pre-tokenizer rules against PCRE2 running the published regular expressions, and their cost on long runs.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "src/text/pretokenize.hpp"

#include <pcre2.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/text/tokenizer.hpp"
#include "tests/support/random.hpp"

namespace lcrun::text {
namespace {

struct Rule {
  const char* name;
  std::vector<std::string> stages;
};

// \p{sc:Han}: a plain \p{Han} takes in script extensions since PCRE2 10.40.
// \s as Unicode's White_Space: PCRE2's own adds U+180E.
const std::string kS = "\\t-\\r \\x{85}\\p{Z}";
const std::string kContractions = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";
const std::string kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const std::string kEnd = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const std::string kUpper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const std::string kLower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const std::string kHanUpper = "(?!\\p{sc:Han})" + kUpper;
const std::string kHanLower = "(?!\\p{sc:Han})" + kLower;
const std::string kLead = "[^\\r\\n\\p{L}\\p{N}]?";
const std::string kMarkedWord = "[!-\\/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|";

std::string cased(const std::string& upper, const std::string& lower, const std::string& suffix) {
  return kLead + "(?:" + upper + ")*(?:" + lower + ")+" + suffix + "|" + kLead + "(?:" + upper + ")+(?:" + lower +
         ")*" + suffix + "|";
}
std::string llama3_like(const std::string& numbers) {
  return kContractions + "|" + kLead + "\\p{L}+|" + numbers + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + kEnd;
}

std::vector<Rule> rules() {
  const std::string suffix = "(?:" + kContractions + ")?";
  const std::string slash_tail = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n\\/]*|" + kEnd;
  const std::string deepseek_asian = "[\\x{800}-\\x{9FA5}\\x{AC00}-\\x{D7FF}]+";
  const std::string han_kana = "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+";
  return {
      {"gpt-2", {kGpt2}},
      {"smollm", {"\\p{N}", kGpt2}},
      {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
      {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", kGpt2, "[0-9][0-9][0-9]"}},
      {"llama-bpe", {llama3_like("\\p{N}{1,3}")}},
      {"qwen2", {llama3_like("\\p{N}")}},
      {"ufakzeka", {llama3_like("\\p{N}").substr(kContractions.size() + 1)}},
      {"minicpm5", {"\\p{N}{1,3}", llama3_like("\\p{N}+")}},
      {"qwen35", {kContractions + "|" + kLead + "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" + kEnd}},
      {"jais-2",
       {kContractions + "|" + kLead +
        "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
        "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|"
        "\\s{1,2}(?!\\S)|\\s{1}"}},
      {"seed-coder", {kContractions + "|" + kLead + "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" + kEnd}},
      {"bailingmoe",
       {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
      {"laguna", {"[^\\n]+|[\\n]+", llama3_like("\\p{N}")}},
      {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", deepseek_asian, "\\p{N}"}},
      {"deepseek-v3", {"\\p{N}{1,3}", han_kana, kMarkedWord + " ?[\\p{P}\\p{S}]+[\\r\\n]*|" + kEnd}},
      {"spark2_5", {"\\p{N}{1,3}", han_kana, kMarkedWord + " ?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+", "\\p{N}"}},
      {"viking", {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+", "\\p{N}"}},
      {"gpt-4o", {cased(kUpper, kLower, suffix) + "\\p{N}{1,3}|" + slash_tail}},
      {"tekken", {cased(kUpper, kLower, "") + "\\p{N}|" + slash_tail}},
      {"youtu",
       {"[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}"
        "\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" +
            han_kana,
        cased(kUpper, kLower, suffix) + "\\p{N}|" + slash_tail}},
      {"kimi-k2",
       {"\\p{sc:Han}+|" + cased(kHanUpper, kHanLower, suffix) + "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + kEnd}},
      {"exaone-moe",
       {kContractions + "|" + kLead +
        "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n\\/]?|\\s*[\\r\\n]|"
        "\\s+(?!\\S)|\\s+"}},
      {"superbpe", {"\\p{N}+", "[0-9]{1,3}(?=(?:[0-9]{3})*(?![0-9]))"}},
      {"gemma4", {"[^\\n]+|[\\n]+"}},
  };
}

// Published expressions write \s inside and outside of brackets.
std::string with_unicode_spaces(const std::string& expression) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    if (expression[i] != '\\') {
      if (expression[i] == '[') in_class = true;
      if (expression[i] == ']') in_class = false;
      out += expression[i];
      continue;
    }
    const char next = expression[++i];
    if (next == 's') {
      out += in_class ? kS : "[" + kS + "]";
    } else if (next == 'S') {
      out += "[^" + kS + "]";
    } else {
      out += {'\\', next};
    }
  }
  return out;
}

class Regex {
 public:
  explicit Regex(const std::string& expression) {
    const std::string text = with_unicode_spaces(expression);
    int error = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP, &error,
                          &offset, nullptr);
    INFO(text << " at " << offset);
    REQUIRE(code_ != nullptr);
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }

  // Matches and what lies between them.
  std::vector<std::string> split(const std::string& text) const {
    std::vector<std::string> pieces;
    size_t at = 0;
    while (at < text.size()) {
      const int found =
          pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0, match_, nullptr);
      if (found < 0) break;
      const size_t* span = pcre2_get_ovector_pointer(match_);
      if (span[0] > at) pieces.push_back(text.substr(at, span[0] - at));
      pieces.push_back(text.substr(span[0], span[1] - span[0]));
      at = span[1];
    }
    if (at < text.size()) pieces.push_back(text.substr(at));
    return pieces;
  }

 private:
  pcre2_code* code_ = nullptr;
  pcre2_match_data* match_ = nullptr;
};

std::vector<std::string> pieces_of(std::string_view text, const PreTokenizer& pre) {
  std::vector<std::string> pieces;
  pre_tokenize(text, pre.stages, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

// A code point that PCRE2 (Unicode 14) and we (15.1) class alike: blocks that are long settled.
uint32_t settled_code_point(test::Random& random) {
  constexpr uint32_t kBlocks[][2] = {
      {0x20, 0x7E},     {0x00, 0x1F},     {0x80, 0x24F},    {0x2B0, 0x36F},     {0x400, 0x481},    {0x5D0, 0x5EA},
      {0x660, 0x669},   {0x904, 0x939},   {0x93E, 0x94D},   {0xE01, 0xE3A},     {0x1C5, 0x1CC},    {0x2000, 0x206F},
      {0x2160, 0x2188}, {0x2190, 0x23FF}, {0x3000, 0x3029}, {0x3041, 0x3096},   {0x3105, 0x312F},  {0x4E00, 0x4FFF},
      {0xAC00, 0xAD00}, {0xFF01, 0xFF5E}, {0xE000, 0xE0FF}, {0x1F600, 0x1F64F}, {0x20000, 0x20100}};
  const auto& block = kBlocks[random.below(static_cast<int64_t>(std::size(kBlocks)))];
  uint32_t cp = block[0] + static_cast<uint32_t>(random.below(block[1] - block[0] + 1));
  return cp == 0x2065 ? 'x' : cp;  // unassigned within its block
}

std::string random_text(test::Random& random) {
  constexpr const char* kParts[] = {"'s",           "'LL",   "'re",  "'Ve", "don't", "HTMLParser", "x",  "ABc",
                                    "  ",           "   ",   " ",    "\n",  "\r\n",  "\n\n ",      "\t", "12345",
                                    "1234567",      "/",     "//\n", "!?",  " (",    ".\n",        "'",  "e\xCC\x81",
                                    "\xE4\xB8\xAD", "A a b", "    x"};
  std::string text;
  for (int64_t n = 1 + random.below(16); n > 0; --n) {
    if (random.below(2) == 0) {
      text += kParts[random.below(static_cast<int64_t>(std::size(kParts)))];
    } else {
      const uint32_t cp = settled_code_point(random);
      for (int64_t times = 1 + random.below(3); times > 0; --times) append_utf8(cp, text);
    }
  }
  return text;
}

TEST_CASE("every rule splits random text as its published expression does", "[text]") {
  for (const Rule& rule : rules()) {
    const PreTokenizer* pre = find_pre_tokenizer(rule.name);
    REQUIRE(pre != nullptr);
    std::vector<std::unique_ptr<Regex>> stages;
    for (const std::string& stage : rule.stages) stages.push_back(std::make_unique<Regex>(stage));
    test::Random random(7);
    for (int i = 0; i < 1500; ++i) {
      const std::string text = random_text(random);
      std::vector<std::string> want{text};
      for (const auto& stage : stages) {
        std::vector<std::string> next;
        for (const std::string& piece : want) {
          for (std::string& part : stage->split(piece)) next.push_back(std::move(part));
        }
        want = std::move(next);
      }
      if (pieces_of(text, *pre) != want) {
        INFO(rule.name << " on " << text);
        REQUIRE(pieces_of(text, *pre) == want);
      }
    }
  }
}

TEST_CASE("rules split recorded text as another implementation did", "[text]") {
  const auto file = read_text_file(posix_file_system(), LCRUN_TEST_ROOT "/golden/pretokenize.json", 1 << 22);
  REQUIRE(file);
  const auto golden = nlohmann::json::parse(*file);
  REQUIRE(golden["rules"].size() >= 7);
  for (const auto& rule : golden["rules"]) {
    INFO(rule["name"]);
    const PreTokenizer* pre = find_pre_tokenizer(rule["name"].get<std::string>());
    REQUIRE(pre != nullptr);
    for (const auto& row : rule["pieces"]) {
      const auto want = row.get<std::vector<std::string>>();
      std::string text;
      for (const std::string& piece : want) text += piece;
      CHECK(pieces_of(text, *pre) == want);
    }
  }
}

TEST_CASE("long runs of one class take every rule linear time", "[text]") {
  // A rule that were quadratic would need hours for these.
  const std::string units[] = {" ",        "\n",   "a",  "A",   "7", "!", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80",
                               "\xCC\x81", "\xFF", " a", "\r ", "'"};
  std::set<const Stage*> seen;
  for (const std::string& name : known_pre_tokenizers()) {
    const PreTokenizer* pre = find_pre_tokenizer(name);
    if (!seen.insert(pre->stages.data()).second) continue;
    for (const std::string& unit : units) {
      std::string text;
      while (text.size() < 200'000) text += unit;
      for (const std::string_view end : {"", "x"}) {
        size_t total = 0;
        pre_tokenize(text + std::string(end), pre->stages, [&](std::string_view piece) { total += piece.size(); });
        REQUIRE(total == text.size() + end.size());
      }
    }
  }
  CHECK(seen.size() > 20);
}

TEST_CASE("ten megabytes of one class split whole", "[text]") {
  constexpr std::pair<const char*, char> kCases[] = {{"gpt-2", ' '}, {"llama-bpe", 'a'}, {"deepseek-llm", '\n'}};
  for (const auto& [name, unit] : kCases) {
    const std::string text(10'000'000, unit);
    size_t total = 0;
    pre_tokenize(text, find_pre_tokenizer(name)->stages, [&](std::string_view piece) { total += piece.size(); });
    CHECK(total == text.size());
  }
}

TEST_CASE("invalid bytes are kept and count as symbols", "[text]") {
  const std::string text = "ab\xFF\xFE cd\xE4\xB8 \x80";
  const auto pieces = pieces_of(text, *find_pre_tokenizer("gpt-2"));
  CHECK(pieces == std::vector<std::string>{"ab", "\xFF\xFE", " cd", "\xE4\xB8", " \x80"});
}

TEST_CASE("digits group in threes from the right", "[text]") {
  const auto pieces = pieces_of("1234567 12", *find_pre_tokenizer("tiny_aya"));
  CHECK(pieces == std::vector<std::string>{"1", "234", "567", " ", "12"});
}

TEST_CASE("a piece beyond the limit is cut", "[text]") {
  const std::string text(kMaxPieceBytes + 5, 'a');
  const auto pieces = pieces_of(text, *find_pre_tokenizer("gpt-2"));
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[1].size() == 5);
}

TEST_CASE("an unnamed pre-tokenizer is the default one and unknown names are unknown", "[text]") {
  CHECK(find_pre_tokenizer("")->name == "default");
  CHECK(find_pre_tokenizer("gpt-5000") == nullptr);
}

}  // namespace
}  // namespace lcrun::text
