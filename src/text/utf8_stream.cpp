// Streaming UTF-8 repair: one U+FFFD per maximal ill-formed subsequence (Unicode 15, section 3.9, "best practice"),
// so that the result does not depend on how the bytes were cut.
#include "src/text/tokenizer.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

enum class Fit : uint8_t { kWhole, kBroken, kCut };

struct Sequence {
  Fit fit;
  size_t size;  // bytes looked at; of a broken one, the part that could have begun a sequence (at least 1)
};

// Table 3-7 of the standard: the second byte's range depends on the lead.
Sequence next_sequence(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return {Fit::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Fit::kBroken, 1};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < size; ++i) {
    if (at + i == bytes.size()) return {Fit::kCut, i};
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    const unsigned next = byte(at + i);
    if (next < low || next > high) return {Fit::kBroken, i};
  }
  return {Fit::kWhole, size};
}

}  // namespace

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  held_ += bytes;
  const std::string_view all = held_;
  size_t at = 0;
  while (at < all.size()) {
    const Sequence sequence = next_sequence(all, at);
    if (sequence.fit == Fit::kCut) break;
    out += sequence.fit == Fit::kWhole ? all.substr(at, sequence.size) : kReplacement;
    at += sequence.size;
  }
  held_.erase(0, at);
}

void Utf8Stream::finish(std::string& out) {
  if (!held_.empty()) out += kReplacement;
  held_.clear();
}

}  // namespace lcrun::text
