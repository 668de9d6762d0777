// One pass over the template; see jinja_lexer.hpp. Expression tokens and text share one cursor.
#include "src/text/jinja_lexer.hpp"

#include <algorithm>
#include <cctype>

namespace lcrun::text::jinja {
namespace {

bool is_digit_char(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_char(char c) { return is_name_start(c) || is_digit_char(c); }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    if (!source_.empty() && source_.back() == '\n') source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = find_tag(at_);
      if (tag == std::string_view::npos) {
        emit(TokenType::kText, std::string(source_.substr(at_)), at_);
        break;
      }
      lex_tag(tag);
    }
    emit(TokenType::kEnd, "", source_.size());
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void bad(size_t offset, std::string message) const {
    throw TemplateError{Code::kBadModel, std::move(message), offset};
  }

  char peek(size_t position) const { return position < source_.size() ? source_[position] : '\0'; }
  bool starts(size_t position, std::string_view what) const {
    return position <= source_.size() && source_.substr(position, what.size()) == what;
  }

  void emit(TokenType type, std::string value, size_t offset) {
    if (type == TokenType::kText && value.empty()) return;
    tokens_.push_back({type, std::move(value), offset});
  }

  size_t find_tag(size_t from) const {
    for (size_t i = source_.find('{', from); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      const char next = peek(i + 1);
      if (next == '%' || next == '{' || next == '#') return i;
    }
    return std::string_view::npos;
  }

  // Text before a tag, after what the tag's edge strips.
  std::string_view stripped(std::string_view text, char sign, bool is_print, bool line_starting) const {
    if (sign == '-') return text.substr(0, strip_extent(text, nullptr, false, true).last);
    if (sign == '+' || is_print) return text;
    const size_t newline = text.rfind('\n');
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    if (start == 0 && !line_starting) return text;
    if (strip_extent(text.substr(start), nullptr, true, false).first != text.size() - start) return text;
    return text.substr(0, start);
  }

  void lex_tag(size_t tag) {
    const char kind = source_[tag + 1];
    const char sign = peek(tag + 2) == '-' || peek(tag + 2) == '+' ? peek(tag + 2) : '\0';
    emit(TokenType::kText, std::string(stripped(source_.substr(at_, tag - at_), sign, kind == '{', line_starting_)),
         at_);
    at_ = tag + 2 + (sign != '\0' ? 1 : 0);
    if (kind == '#') return skip_comment(tag);
    if (kind == '%' && lex_raw(tag)) return;
    emit(kind == '{' ? TokenType::kPrintBegin : TokenType::kBlockBegin, "", tag);
    lex_expression(kind == '{', tag);
  }

  void skip_comment(size_t tag) {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos) bad(tag, "the comment {# is never closed");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    at_ = end + 2;
    finish_tag(sign, true);
  }

  // After a tag's closing bracket: what it swallows.
  void finish_tag(char sign, bool trims_newline) {
    if (sign == '-') {
      at_ += strip_extent(source_.substr(at_), nullptr, true, false).first;
    } else if (sign != '+' && trims_newline && peek(at_) == '\n') {
      ++at_;
    }
    line_starting_ = source_[at_ - 1] == '\n';
  }

  size_t skip_blanks(size_t position) const {
    while (position < source_.size() && is_blank(source_[position])) ++position;
    return position;
  }

  // {% raw %} ... {% endraw %}; at_ is behind the opening bracket.
  bool lex_raw(size_t tag) {
    size_t position = skip_blanks(at_);
    if (!starts(position, "raw")) return false;
    position = skip_blanks(position + 3);
    const bool strips = starts(position, "-%}");
    if (!strips && !starts(position, "%}")) return false;
    at_ = position + (strips ? 3 : 2);
    finish_tag(strips ? '-' : '+', false);
    for (size_t end = source_.find("{%", at_); end != std::string_view::npos; end = source_.find("{%", end + 2)) {
      if (finish_raw(end)) return true;
    }
    bad(tag, "{% raw %} is never closed");
  }

  bool finish_raw(size_t end) {
    const char sign = peek(end + 2) == '-' || peek(end + 2) == '+' ? peek(end + 2) : '\0';
    size_t position = skip_blanks(end + 2 + (sign != '\0' ? 1 : 0));
    if (!starts(position, "endraw")) return false;
    position = skip_blanks(position + 6);
    const char close = peek(position) == '-' || peek(position) == '+' ? peek(position) : '\0';
    if (close != '\0') ++position;
    if (!starts(position, "%}")) return false;
    emit(TokenType::kText, std::string(stripped(source_.substr(at_, end - at_), sign, false, line_starting_)), at_);
    at_ = position + 2;
    finish_tag(close, true);
    return true;
  }

  void lex_expression(bool is_print, size_t tag) {
    const std::string_view close = is_print ? "}}" : "%}";
    std::string open;  // brackets not yet closed
    while (at_ < source_.size()) {
      const char sign = source_[at_];
      const bool signed_end = (sign == '-' || (sign == '+' && !is_print)) && starts(at_ + 1, close);
      if (open.empty() && (signed_end || starts(at_, close))) {
        emit(is_print ? TokenType::kPrintEnd : TokenType::kBlockEnd, "", at_);
        at_ += signed_end ? 3 : 2;
        return finish_tag(signed_end ? sign : '\0', !is_print);
      }
      if (is_blank(sign)) {
        ++at_;
      } else {
        lex_token(open);
      }
    }
    bad(tag, is_print ? "{{ is never closed" : "{% is never closed");
  }

  void lex_token(std::string& open) {
    const char c = source_[at_];
    if (is_name_start(c)) {
      const size_t start = at_;
      while (at_ < source_.size() && is_name_char(source_[at_])) ++at_;
      return emit(TokenType::kName, std::string(source_.substr(start, at_ - start)), start);
    }
    if (is_digit_char(c)) return lex_number();
    if (c == '\'' || c == '"') return lex_string(c);
    lex_operator(open);
  }

  void lex_number() {
    const size_t start = at_;
    if (source_[at_] == '0' && (peek(at_ + 1) | 0x20) == 'x') {
      at_ += 2;
      while (std::isxdigit(static_cast<unsigned char>(peek(at_))) != 0) ++at_;
      return emit(TokenType::kInt, std::string(source_.substr(start, at_ - start)), start);
    }
    std::string digits;
    bool is_float = false;
    const auto take_digits = [&] {
      while (is_digit_char(peek(at_)) || (peek(at_) == '_' && is_digit_char(peek(at_ + 1)))) {
        if (source_[at_] != '_') digits += source_[at_];
        ++at_;
      }
    };
    take_digits();
    const bool after_dot = start > 0 && source_[start - 1] == '.';
    if (!after_dot && peek(at_) == '.' && is_digit_char(peek(at_ + 1))) {
      is_float = true;
      digits += source_[at_++];
      take_digits();
    }
    const size_t exponent = at_ + 1 + (peek(at_ + 1) == '+' || peek(at_ + 1) == '-' ? 1 : 0);
    if (!after_dot && (peek(at_) | 0x20) == 'e' && is_digit_char(peek(exponent))) {
      is_float = true;
      digits += source_.substr(at_, exponent - at_);
      at_ = exponent;
      take_digits();
    }
    emit(is_float ? TokenType::kFloat : TokenType::kInt, digits, start);
  }

  void lex_string(char quote) {
    const size_t start = at_++;
    std::string value;
    while (peek(at_) != quote || at_ >= source_.size()) {
      if (at_ >= source_.size()) bad(start, "the string is never closed");
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        unescape(value);
      } else {
        value += source_[at_++];
      }
    }
    ++at_;
    emit(TokenType::kString, std::move(value), start);
  }

  // Python's escapes; unknown ones stay as they are.
  void unescape(std::string& value) {
    const char c = source_[at_ + 1];
    at_ += 2;
    static constexpr std::string_view kFrom = "ntr\\'\"abfv";
    static constexpr std::string_view kTo = "\n\t\r\\'\"\a\b\f\v";
    const size_t simple = kFrom.find(c);
    if (simple != std::string_view::npos) {
      value += kTo[simple];
    } else if (c == 'x') {
      append_code(value, 2, 16, 2);
    } else if (c == 'u') {
      append_code(value, 4, 16, 4);
    } else if (c == 'U') {
      append_code(value, 8, 16, 8);
    } else if (c >= '0' && c <= '7') {
      --at_;
      append_code(value, 1, 8, 3);
    } else if (c != '\n') {
      value += '\\';
      value += c;
    }
  }

  void append_code(std::string& value, int least, int base, int most) {
    const size_t start = at_;
    char32_t code = 0;
    int count = 0;
    for (; count < most; ++count, ++at_) {
      const auto c = static_cast<unsigned char>(peek(at_));
      if (std::isxdigit(c) == 0 || (base == 8 && (c < '0' || c > '7'))) break;
      const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
      code = code * static_cast<char32_t>(base) + static_cast<char32_t>(digit);
    }
    if (count < least) bad(start, "a \\ escape has too few digits");
    append_utf8(value, code);
  }

  void lex_operator(std::string& open) {
    static constexpr std::string_view kTwo[] = {"==", "!=", ">=", "<=", "//", "**"};
    for (const std::string_view two : kTwo) {
      if (!starts(at_, two)) continue;
      emit(TokenType::kOp, std::string(two), at_);
      at_ += 2;
      return;
    }
    const char c = source_[at_];
    static constexpr std::string_view kOne = "+-*/%~[](){}<>=.:|,;";
    if (kOne.find(c) == std::string_view::npos) bad(at_, format("unexpected character '{}'", c));
    if (c == '(' || c == '[' || c == '{') open += c;
    if (c == ')' || c == ']' || c == '}') {
      const char wanted = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open.empty() || open.back() != wanted) bad(at_, format("unexpected '{}'", c));
      open.pop_back();
    }
    emit(TokenType::kOp, std::string(1, c), at_++);
  }

  std::string_view source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> lex(std::string_view source) { return Lexer(source).run(); }

}  // namespace lcrun::text::jinja
