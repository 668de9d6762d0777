// The `pattern` keyword: a regular expression over string values to GBNF over their JSON spelling.
//
// Characters that JSON must escape are spelt as escapes where the pattern names them, and left out of negated
// classes and the dot: a smaller language, never a larger one.
#include <algorithm>
#include <vector>

#include "src/text/grammar_rules.hpp"
#include "src/text/jinja_text.hpp"
#include "src/text/json_schema.hpp"

namespace lcrun::text::grammar {
namespace {

constexpr int kMaxRegexNesting = 100;
constexpr size_t kMaxRegexBytes = 10'000;

class RegexConverter {
 public:
  RegexConverter(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    if (pattern_.size() > kMaxRegexBytes) bad("is too long");
    const bool from_start = take('^');
    // "^a|b$" anchors its alternatives apart; that is refused below, where a '^' or '$' stands inside.
    std::string body = alternatives(0);
    const bool to_end = take('$');
    if (at_ < pattern_.size()) bad(pattern_[at_] == ')' ? "has a ')' too many" : "has a '$' that is not at its end");
    if ((from_start || to_end) && top_alternatives_ > 1) bad("has anchors beside '|'; put the alternatives in ( )");
    return format("\"\\\"\" {}{}({}){}{} \"\\\"\"", from_start ? "" : kPlain, from_start ? "" : "* ", body,
                  to_end ? "" : " ", to_end ? "" : std::string(kPlain) + "*");
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    fail("JSON schema: {}: the pattern '{}' {}", where_, pattern_, what);
  }

  char peek(size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool take(char c) {
    if (peek() != c || at_ >= pattern_.size()) return false;
    ++at_;
    return true;
  }

  std::string alternatives(int nesting) {
    if (nesting > kMaxRegexNesting) bad("is nested too deep");
    std::string out = sequence(nesting);
    int count = 1;
    for (; take('|'); ++count) {
      out += " | ";
      out += sequence(nesting);
    }
    if (nesting == 0) top_alternatives_ = count;
    return out;
  }

  std::string sequence(int nesting) {
    std::string out;
    while (at_ < pattern_.size() && peek() != '|' && peek() != ')' && peek() != '$') {
      if (!out.empty()) out += ' ';
      out += atom(nesting);
      out += quantifier();
    }
    return out.empty() ? "\"\"" : out;
  }

  std::string atom(int nesting) {
    const char c = peek();
    if (c == '*' || c == '+' || c == '?' || c == '{') bad("has a quantifier with nothing before it");
    if (c == '^') bad("has a '^' that is not at its start");
    if (c == '(') return group(nesting);
    if (c == '[') return char_class();
    if (c == '.') {
      ++at_;
      return kPlain;
    }
    if (c == '\\' && std::string_view("dDwWsS").find(peek(1)) != std::string_view::npos && peek(1) != '\0') {
      const CharSet set = shorthand(peek(1));
      at_ += 2;
      return spelt(set);
    }
    const char32_t cp = character(false);
    return spelt({{cp, cp}});
  }

  std::string group(int nesting) {
    ++at_;
    if (take('?') && !take(':')) bad("has a group of a kind that is not supported");
    const std::string inner = alternatives(nesting + 1);
    if (peek() == '$') bad("has a '$' that is not at its end");
    if (!take(')')) bad("has a '(' that is never closed");
    return format("({})", inner);
  }

  std::string quantifier() {
    std::string out;
    if (peek() == '*' || peek() == '+' || peek() == '?') {
      out = std::string(1, pattern_[at_++]);
    } else if (peek() == '{') {
      const size_t close = pattern_.find('}', at_);
      if (close == std::string_view::npos) bad("has a '{' that is never closed");
      out = std::string(pattern_.substr(at_, close - at_ + 1));
      const bool has_number = out.size() > 2 && out[1] >= '0' && out[1] <= '9';
      if (!has_number || out.find_first_not_of("0123456789,{}") != std::string::npos ||
          std::count(out.begin(), out.end(), ',') > 1) {
        bad("has a quantifier that is not {m}, {m,} or {m,n}");
      }
      at_ = close + 1;
    }
    if (!out.empty()) take('?');  // lazy: the same texts
    if (!out.empty() && (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{')) {
      bad("has a quantifier after a quantifier");
    }
    return out;
  }

  static CharSet shorthand(char kind) {
    CharSet set;
    switch (kind | 0x20) {
      case 'd':
        set = {{'0', '9'}};
        break;
      case 'w':
        set = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
        break;
      default:
        set = {{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
        break;
    }
    return kind >= 'a' ? set : complement_plain(set);
  }

  // What JSON can hold unescaped, without `set`.
  static CharSet complement_plain(const CharSet& set) {
    // \W and \S of other engines may see further digits, letters and blanks: stay within ASCII.
    CharSet all = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0x7F, kLastCodePoint}};
    all.insert(all.end(), set.begin(), set.end());
    return complement(normalized(std::move(all)));
  }

  char32_t character(bool in_class) {
    if (peek() != '\\') {
      const char32_t cp = jinja::cp_at(pattern_, at_);
      const size_t size = jinja::cp_size(pattern_, at_);
      if (size == 1 && static_cast<unsigned char>(peek()) >= 0x80) bad("is not UTF-8");
      at_ += size;
      return cp;
    }
    const char c = peek(1);
    at_ += 2;
    static constexpr std::string_view kFrom = "nrtfv";
    static constexpr std::string_view kTo = "\n\r\t\f\v";
    const size_t control = kFrom.find(c);
    if (c != '\0' && control != std::string_view::npos) return static_cast<char32_t>(kTo[control]);
    if (c == 'x') return hex(2);
    if (c == 'u') return hex(4);
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c == '\0' || is_letter || static_cast<unsigned char>(c) >= 0x80) {
      bad(in_class ? "has an escape in a class that is not supported" : "has an escape that is not supported");
    }
    return static_cast<char32_t>(c);
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = peek();
      const char lower = static_cast<char>(c | 0x20);
      if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'f')) bad("has an incomplete escape");
      value = value * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : lower - 'a' + 10);
    }
    if (value >= 0xD800 && value <= 0xDFFF) bad("has a surrogate in an escape");
    return value;
  }

  std::string char_class() {
    ++at_;
    const bool negated = take('^');
    CharSet set;
    bool first_item = true;
    bool has_shorthand = false;
    while (at_ < pattern_.size() && (peek() != ']' || first_item)) {
      if (peek() == ']') bad("has an empty class");
      first_item = false;
      if (peek() == '\\' && std::string_view("dws").find(peek(1)) != std::string_view::npos && peek(1) != '\0') {
        const CharSet more = shorthand(peek(1));
        set.insert(set.end(), more.begin(), more.end());
        at_ += 2;
        has_shorthand = true;
        continue;
      }
      const char32_t first = character(true);
      char32_t last = first;
      if (peek() == '-' && peek(1) != ']' && at_ + 1 < pattern_.size()) {
        ++at_;
        last = character(true);
      }
      if (last < first) bad("has a range that runs backwards");
      set.push_back({first, last});
    }
    if (!take(']')) bad("has a '[' that is never closed");
    set = normalized(std::move(set));
    if (!negated) return spelt(set);
    CharSet excluded = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0x7F, 0x9F}, {0xD800, 0xDFFF}};
    // A negated \d, \w or \s may exclude more in other engines than it does here: then ASCII only.
    if (has_shorthand) excluded.push_back({0x80, kLastCodePoint});
    excluded.insert(excluded.end(), set.begin(), set.end());
    set = complement(normalized(std::move(excluded)));
    return spelt(set);
  }

  // The JSON spellings of the characters of a set.
  std::string spelt(const CharSet& set) {
    std::string ranges;
    std::string escapes;
    for (const CharRange& range : set) {
      char32_t start = range.first;
      for (const char32_t special : special_characters()) {
        if (special < range.first || special > range.last) continue;
        if (special > start) append_range(ranges, start, special - 1);
        start = special + 1;
        if (!escapes.empty()) escapes += " | ";
        escapes += literal(escape_of(special));
      }
      if (start <= range.last) append_range(ranges, start, range.last);
    }
    if (ranges.empty() && escapes.empty()) bad("has a class that holds no character");
    if (escapes.empty()) return format("[{}]", ranges);
    return ranges.empty() ? format("({})", escapes) : format("([{}] | {})", ranges, escapes);
  }

  static const std::vector<char32_t>& special_characters() {
    static const std::vector<char32_t> all = [] {
      std::vector<char32_t> out;
      for (char32_t cp = 0; cp < 0x20; ++cp) out.push_back(cp);
      out.push_back('"');
      out.push_back('\\');
      return out;
    }();
    return all;
  }

  static std::string escape_of(char32_t cp) {
    static constexpr char kHex[] = "0123456789abcdef";
    switch (cp) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      default:
        break;
    }
    std::string out = "\\u00";
    out += kHex[cp >> 4];
    out += kHex[cp & 15];
    return out;
  }

  static void append_range(std::string& out, char32_t first, char32_t last) {
    append_class_char(out, first);
    if (last == first) return;
    out += '-';
    append_class_char(out, last);
  }

  static void append_class_char(std::string& out, char32_t cp) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    const bool is_plain = (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z');
    if (is_plain) {
      out += static_cast<char>(cp);
      return;
    }
    out += "\\U";
    for (int shift = 28; shift >= 0; shift -= 4) out += kHex[(cp >> shift) & 15];
  }

  // No line ends: the dot does not match them.
  static constexpr const char* kPlain = "[^\\x00-\\x1F\"\\\\\\x7F-\\x9F\\u2028\\u2029]";
  std::string_view pattern_;
  std::string_view where_;
  size_t at_ = 0;
  int top_alternatives_ = 1;
};

}  // namespace

std::string regex_to_gbnf(std::string_view pattern, std::string_view where) {
  return RegexConverter(pattern, where).run();
}

}  // namespace lcrun::text::grammar
