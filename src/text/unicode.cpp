// Classes come from one table for the basic plane, filled once, and from utf8proc above it.
#include "src/text/unicode.hpp"

#include <utf8proc.h>

#include <array>
#include <memory>

namespace lcrun::text {

namespace {

struct Range {
  uint32_t first;
  uint32_t last;
};

// Script=Han, Unicode 15.1 (Scripts.txt).
constexpr Range kHanRanges[] = {{0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},
                                {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},
                                {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3},
                                {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
                                {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
                                {0x30000, 0x3134A}, {0x31350, 0x323AF}};

bool is_han(uint32_t cp) {
  if (cp < kHanRanges[0].first) return false;
  for (const Range& range : kHanRanges) {
    if (cp >= range.first && cp <= range.last) return true;
  }
  return false;
}

CharClass category_class(uint32_t cp) {
  // Unicode 15.1 over the library's 15.0.
  if ((cp >= 0x2FFC && cp <= 0x2FFF) || cp == 0x31EF) return kSymbol;
  if (cp >= 0x2EBF0 && cp <= 0x2EE5D) return kLo;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(cp))) {
    case UTF8PROC_CATEGORY_LU:
      return kLu;
    case UTF8PROC_CATEGORY_LL:
      return kLl;
    case UTF8PROC_CATEGORY_LT:
      return kLt;
    case UTF8PROC_CATEGORY_LM:
      return kLm;
    case UTF8PROC_CATEGORY_LO:
      return kLo;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunct;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kWideSpace;
    case UTF8PROC_CATEGORY_CN:
      return kOther;
    default:
      return kOther | kControl;
  }
}

CharClass compute_class(uint32_t cp) {
  if (cp < 0x80) return detail::kAsciiClasses[cp];
  if (cp == 0x85) return kWideSpace;
  if (cp > 0x10FFFF) return kOther;
  return category_class(cp) | (is_han(cp) ? kHan : 0);
}

constexpr uint32_t kTableSize = 0x10000;

const CharClass* basic_plane() {
  static const std::unique_ptr<CharClass[]> table = [] {
    auto classes = std::make_unique<CharClass[]>(kTableSize);
    for (uint32_t cp = 0; cp < kTableSize; ++cp) classes[cp] = compute_class(cp);
    return classes;
  }();
  return table.get();
}

}  // namespace

CharClass detail::wide_class(uint32_t code_point) {
  static const CharClass* const table = basic_plane();
  return code_point < kTableSize ? table[code_point] : compute_class(code_point);
}

CodePoint decode_code_point(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> uint32_t { return static_cast<unsigned char>(text[i]); };
  const uint32_t lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  constexpr CodePoint kInvalid{0xFFFD, 1};
  if (lead < 0xC2 || lead > 0xF4) return kInvalid;
  const uint32_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() - at < size) return kInvalid;
  uint32_t value = lead & (0x7Fu >> size);
  for (uint32_t i = 1; i < size; ++i) {
    const uint32_t next = byte(at + i);
    if ((next & 0xC0) != 0x80) return kInvalid;
    value = (value << 6) | (next & 0x3F);
  }
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[size] || value > 0x10FFFF || surrogate) return kInvalid;
  return {value, size};
}

void append_utf8(uint32_t code_point, std::string& out) {
  const auto push = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
    return;
  }
  if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
  } else if (code_point < 0x10000) {
    push(0xE0 | (code_point >> 12));
    push(0x80 | ((code_point >> 6) & 0x3F));
  } else {
    push(0xF0 | ((code_point >> 18) & 0x07));
    push(0x80 | ((code_point >> 12) & 0x3F));
    push(0x80 | ((code_point >> 6) & 0x3F));
  }
  push(0x80 | (code_point & 0x3F));
}

uint32_t to_lower(uint32_t code_point) {
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

uint32_t base_letter(uint32_t code_point) {
  if (code_point < 0x80) return code_point;
  std::array<utf8proc_int32_t, 32> parts{};
  int boundary = 0;
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), parts.data(),
                              static_cast<utf8proc_ssize_t>(parts.size()), UTF8PROC_DECOMPOSE, &boundary);
  return count > 0 ? static_cast<uint32_t>(parts[0]) : code_point;
}

}  // namespace lcrun::text
