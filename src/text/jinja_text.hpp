// Text: a byte string whose every byte knows whether the template's author or somebody else wrote it.
//
// Chat templates cut, join and rewrite what users typed; the tokenizer must still know afterwards which bytes may
// spell a special token. So trust is kept as runs beside the bytes, and every string operation of the interpreter
// builds its result from pieces of its operands. Positions are byte offsets; code points are found by cp_size
// (an invalid byte counts as one code point of one byte). Thread rule: values, shared read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lcrun::text::jinja {

class Text;
using TextPtr = std::shared_ptr<const Text>;

class Text {
 public:
  struct Run {
    size_t end = 0;  // one past the run's last byte
    bool trusted = false;
  };

  Text() = default;
  Text(std::string_view bytes, bool trusted) { append(bytes, trusted); }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  const std::vector<Run>& runs() const { return runs_; }
  bool trusted_at(size_t position) const { return runs_[find_run(position)].trusted; }

  void append(std::string_view bytes, bool trusted);
  void append(const Text& other) { append(other, 0, other.size()); }
  // Bytes [from, from + count) of `other`, cut to its size.
  void append(const Text& other, size_t from, size_t count);
  Text sub(size_t from, size_t count = std::string::npos) const;
  void clear();

 private:
  size_t find_run(size_t position) const;

  std::string bytes_;
  std::vector<Run> runs_;  // ends strictly ascending, neighbours differ in trust
};

// Bytes of the code point at `position` (< text.size()): 1 to 4; 1 where the bytes are not UTF-8.
size_t cp_size(std::string_view text, size_t position);
// Its value; invalid bytes give U+FFFD.
char32_t cp_at(std::string_view text, size_t position);
size_t cp_count(std::string_view text);
void append_utf8(std::string& out, char32_t cp);
// What Python's str.isspace accepts.
bool is_space(char32_t cp);

// Offsets [first, last) left after removing from the ends: white space, or any code point of *chars.
struct Extent {
  size_t first = 0;
  size_t last = 0;
};
Extent strip_extent(std::string_view text, const std::string* chars, bool left, bool right);

// Each code point through `map` (simple case mapping); trust follows the code point.
Text map_text(const Text& text, char32_t (*map)(char32_t));
char32_t to_upper(char32_t cp);
char32_t to_lower(char32_t cp);
bool is_alpha(char32_t cp);
bool is_digit(char32_t cp);
// First code point upper case, the rest lower case.
Text capitalize(const Text& text);

}  // namespace lcrun::text::jinja
