#include "ggufish/printable.hpp"

#include <cstdint>

namespace lcrun::ggufish {
namespace {

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

bool is_continuation(std::string_view text, size_t i) { return i < text.size() && (byte_at(text, i) & 0xC0) == 0x80; }

// C0, DEL and, as two bytes of UTF-8, C1.
bool is_control(std::string_view code_point) {
  const uint8_t first = byte_at(code_point, 0);
  if (code_point.size() == 1) return first < 0x20 || first == 0x7F;
  return code_point.size() == 2 && first == 0xC2 && byte_at(code_point, 1) < 0xA0;
}

void append_hex(std::string& out, uint8_t byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  out += "\\x";
  out += kDigits[byte >> 4];
  out += kDigits[byte & 15];
}

void append_escaped(std::string& out, std::string_view bytes) {
  if (bytes == "\n") {
    out += "\\n";
  } else if (bytes == "\t") {
    out += "\\t";
  } else {
    for (size_t i = 0; i < bytes.size(); ++i) append_hex(out, byte_at(bytes, i));
  }
}

}  // namespace

size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const uint8_t first = byte_at(text, 0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4 || !is_continuation(text, 1)) return 0;
  if (first < 0xE0) return 2;
  const uint8_t second = byte_at(text, 1);
  if (!is_continuation(text, 2)) return 0;
  if (first < 0xF0) {
    const bool overlong = first == 0xE0 && second < 0xA0;
    const bool surrogate = first == 0xED && second >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  const bool overlong = first == 0xF0 && second < 0x90;
  const bool beyond_unicode = first == 0xF4 && second >= 0x90;
  return overlong || beyond_unicode || !is_continuation(text, 3) ? 0 : 4;
}

bool is_plain_text(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0 || is_control(text.substr(0, length))) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text, size_t limit_bytes) {
  std::string out;
  while (!text.empty()) {
    if (out.size() >= limit_bytes) return out + "...";
    const size_t length = utf8_length(text);
    const std::string_view unit = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || is_control(unit)) {
      append_escaped(out, unit);
    } else {
      if (unit == "\\" || unit == "\"") out += '\\';
      out += unit;
    }
    text.remove_prefix(unit.size());
  }
  return out;
}

std::string quoted(std::string_view text, size_t limit_bytes) { return '"' + printable(text, limit_bytes) + '"'; }

}  // namespace lcrun::ggufish
