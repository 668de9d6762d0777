// Code points out of bytes, and the classes of code points that pre-tokenizer patterns speak of.
//
// Classes are bits: the first thirteen part all code points (a negated class is the complement of its bits), the
// rest mark subsets that patterns name. Categories are Unicode 15.1: utf8proc's tables plus the blocks that 15.1
// added. Thread rule: any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lcrun::text {

using CharClass = uint32_t;

// The partition.
inline constexpr CharClass kLu = 1u << 0;
inline constexpr CharClass kLl = 1u << 1;
inline constexpr CharClass kLt = 1u << 2;
inline constexpr CharClass kLm = 1u << 3;
inline constexpr CharClass kLo = 1u << 4;
inline constexpr CharClass kMark = 1u << 5;
inline constexpr CharClass kNumber = 1u << 6;
inline constexpr CharClass kPunct = 1u << 7;
inline constexpr CharClass kSymbol = 1u << 8;
inline constexpr CharClass kBlank = 1u << 9;       // U+0020 alone
inline constexpr CharClass kNewline = 1u << 10;    // CR and LF
inline constexpr CharClass kWideSpace = 1u << 11;  // all other white space
inline constexpr CharClass kOther = 1u << 12;      // control, format, private, unassigned, surrogate
// Subsets.
inline constexpr CharClass kAsciiLetter = 1u << 13;
inline constexpr CharClass kAsciiDigit = 1u << 14;
inline constexpr CharClass kAsciiPunct = 1u << 15;  // the 32 of P and S below U+0080
inline constexpr CharClass kMathAscii = 1u << 16;   // $ + < = > ^ ~ |
inline constexpr CharClass kBacktick = 1u << 17;
inline constexpr CharClass kLineFeed = 1u << 18;
inline constexpr CharClass kSlash = 1u << 19;
inline constexpr CharClass kHan = 1u << 20;      // script Han
inline constexpr CharClass kControl = 1u << 21;  // kOther without the unassigned ones

inline constexpr CharClass kLetter = kLu | kLl | kLt | kLm | kLo;
inline constexpr CharClass kSpace = kBlank | kNewline | kWideSpace;
inline constexpr CharClass kAnyChar = (1u << 13) - 1;

namespace detail {
constexpr CharClass ascii_class(uint32_t cp) {
  if (cp == ' ') return kBlank;
  if (cp == '\n') return kNewline | kLineFeed;
  if (cp == '\r') return kNewline;
  if (cp >= 9 && cp <= 12) return kWideSpace;
  if (cp < 0x20 || cp == 0x7F) return kOther | kControl;
  if (cp >= '0' && cp <= '9') return kNumber | kAsciiDigit;
  if (cp >= 'A' && cp <= 'Z') return kLu | kAsciiLetter;
  if (cp >= 'a' && cp <= 'z') return kLl | kAsciiLetter;
  const auto one_of = [cp](std::string_view set) { return set.find(static_cast<char>(cp)) != std::string_view::npos; };
  CharClass bits = (one_of("$+<=>^`|~") ? kSymbol : kPunct) | kAsciiPunct;
  if (one_of("$+<=>^~|")) bits |= kMathAscii;
  if (cp == '`') bits |= kBacktick;
  if (cp == '/') bits |= kSlash;
  return bits;
}
inline constexpr auto kAsciiClasses = [] {
  std::array<CharClass, 128> classes{};
  for (uint32_t cp = 0; cp < 128; ++cp) classes[cp] = ascii_class(cp);
  return classes;
}();
CharClass wide_class(uint32_t code_point);
}  // namespace detail

inline CharClass char_class(uint32_t code_point) {
  return code_point < 0x80 ? detail::kAsciiClasses[code_point] : detail::wide_class(code_point);
}

struct CodePoint {
  uint32_t value = 0;
  uint32_t size = 1;  // bytes
};

// The code point at `at` (at < text.size()). A byte that starts no well-formed sequence (stray, cut, overlong,
// surrogate, beyond U+10FFFF) is one code point U+FFFD of size 1.
CodePoint decode_code_point(std::string_view text, size_t at);

void append_utf8(uint32_t code_point, std::string& out);

// Bytes of the unit of text at `at` (at < text.size()): a lead byte and the continuation bytes that it announces, as
// far as they are there. What pair merging starts from.
constexpr size_t unit_size(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0xC0) return 1;
  const size_t announced = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  size_t size = 1;
  while (size < announced && at + size < text.size() && (static_cast<unsigned char>(text[at + size]) & 0xC0) == 0x80) {
    ++size;
  }
  return size;
}

uint32_t to_lower(uint32_t code_point);
// First code point of the canonical decomposition: the letter below the accents.
uint32_t base_letter(uint32_t code_point);

}  // namespace lcrun::text
