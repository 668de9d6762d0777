// Runs of trust, and the code point helpers (case and class come from utf8proc).
#include "src/text/jinja_text.hpp"

#include <utf8proc.h>

#include <algorithm>

namespace lcrun::text::jinja {

void Text::append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().trusted == trusted) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), trusted});
  }
}

void Text::append(const Text& other, size_t from, size_t count) {
  if (from >= other.size()) return;
  const size_t last = from + std::min(count, other.size() - from);
  for (size_t run = other.find_run(from); from < last; ++run) {
    const size_t end = std::min(last, other.runs_[run].end);
    append(std::string_view(other.bytes_).substr(from, end - from), other.runs_[run].trusted);
    from = end;
  }
}

Text Text::sub(size_t from, size_t count) const {
  Text out;
  out.append(*this, from, count);
  return out;
}

void Text::clear() {
  bytes_.clear();
  runs_.clear();
}

size_t Text::find_run(size_t position) const {
  const auto it = std::upper_bound(runs_.begin(), runs_.end(), position,
                                   [](size_t value, const Run& run) { return value < run.end; });
  return static_cast<size_t>(it - runs_.begin());
}

namespace {
struct Decoded {
  char32_t cp = 0xFFFD;
  size_t size = 1;
};

Decoded decode(std::string_view text, size_t position) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + position;
  if (*bytes < 0x80) return {*bytes, 1};
  utf8proc_int32_t cp = -1;
  const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(4, text.size() - position));
  const auto size = utf8proc_iterate(bytes, left, &cp);
  if (size < 1) return {};
  return {static_cast<char32_t>(cp), static_cast<size_t>(size)};
}
}  // namespace

size_t cp_size(std::string_view text, size_t position) { return decode(text, position).size; }
char32_t cp_at(std::string_view text, size_t position) { return decode(text, position).cp; }

size_t cp_count(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += cp_size(text, i)) ++count;
  return count;
}

void append_utf8(std::string& out, char32_t cp) {
  utf8proc_uint8_t buffer[4];
  if (!utf8proc_codepoint_valid(static_cast<utf8proc_int32_t>(cp))) cp = 0xFFFD;
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(cp), buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<size_t>(size));
}

bool is_space(char32_t cp) {
  if (cp < 0x80) return cp == ' ' || (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1F);
  return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
         cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

namespace {
bool strips(std::string_view text, size_t position, size_t size, const std::string* chars) {
  if (chars == nullptr) return is_space(cp_at(text, position));
  const std::string_view wanted = text.substr(position, size);
  for (size_t i = 0; i < chars->size();) {
    const size_t step = cp_size(*chars, i);
    if (std::string_view(*chars).substr(i, step) == wanted) return true;
    i += step;
  }
  return false;
}

// Start of the code point that ends at `end` (> 0).
size_t cp_before(std::string_view text, size_t end) {
  for (size_t back = std::min<size_t>(4, end); back > 1; --back) {
    if (cp_size(text, end - back) == back) return end - back;
  }
  return end - 1;
}
}  // namespace

Extent strip_extent(std::string_view text, const std::string* chars, bool left, bool right) {
  Extent extent{0, text.size()};
  while (left && extent.first < extent.last) {
    const size_t size = cp_size(text, extent.first);
    if (!strips(text, extent.first, size, chars)) break;
    extent.first += size;
  }
  while (right && extent.last > extent.first) {
    const size_t start = cp_before(text, extent.last);
    if (!strips(text, start, extent.last - start, chars)) break;
    extent.last = start;
  }
  return extent;
}

Text map_text(const Text& text, char32_t (*map)(char32_t)) {
  Text out;
  std::string mapped;
  const std::string& bytes = text.bytes();
  size_t position = 0;
  for (const Text::Run& run : text.runs()) {
    mapped.clear();
    while (position < run.end) {
      const Decoded one = decode(bytes, position);
      const bool valid = one.cp != 0xFFFD;
      if (valid) append_utf8(mapped, map(one.cp));
      if (!valid) mapped.append(bytes, position, one.size);
      position += one.size;
    }
    out.append(mapped, run.trusted);
  }
  return out;
}

char32_t to_upper(char32_t cp) { return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(cp))); }
char32_t to_lower(char32_t cp) { return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(cp))); }
bool is_alpha(char32_t cp) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(cp));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool is_digit(char32_t cp) { return utf8proc_category(static_cast<utf8proc_int32_t>(cp)) == UTF8PROC_CATEGORY_ND; }

Text capitalize(const Text& text) {
  if (text.empty()) return {};
  const size_t first = cp_size(text.bytes(), 0);
  Text out = map_text(text.sub(0, first), to_upper);
  out.append(map_text(text.sub(first), to_lower));
  return out;
}

}  // namespace lcrun::text::jinja
