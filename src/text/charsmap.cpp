// Parsing and matching of the compiled rules.
#include "src/text/charsmap.hpp"

#include <cstring>
#include <optional>

#include "src/base/format.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kKey = "tokenizer.ggml.precompiled_charsmap";

uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
uint32_t label_of(uint32_t unit) { return unit & ((1u << 31) | 0xFFu); }
bool has_value(uint32_t unit) { return ((unit >> 8) & 1u) != 0; }
uint32_t value_of(uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

Result<Charsmap> Charsmap::load(const ggufish::Metadata& meta) {
  Charsmap map;
  if (!meta.has(kKey)) return map;
  LCRUN_ASSIGN(const std::vector<int64_t> values, meta.get_ints(kKey));
  std::string bytes;
  bytes.reserve(values.size());
  for (const int64_t value : values) {
    if (value < -128 || value > 255) return meta.fail(kKey, format("the value {}", value), "bytes");
    bytes.push_back(static_cast<char>(value));
  }
  if (bytes.empty()) return map;
  uint32_t trie_bytes = 0;
  if (bytes.size() < sizeof(trie_bytes)) {
    return meta.fail(kKey, format("{} bytes", bytes.size()), "at least the 4 bytes of its size");
  }
  std::memcpy(&trie_bytes, bytes.data(), sizeof(trie_bytes));
  if (trie_bytes >= bytes.size() - sizeof(trie_bytes)) {
    return meta.fail(kKey, format("a trie of {} bytes in {} bytes", trie_bytes, bytes.size()),
                     "a trie and replacements after it");
  }
  map.units_.resize(trie_bytes / sizeof(uint32_t));
  if (!map.units_.empty()) {
    std::memcpy(map.units_.data(), bytes.data() + sizeof(trie_bytes), map.units_.size() * sizeof(uint32_t));
  }
  map.replacements_ = bytes.substr(sizeof(trie_bytes) + trie_bytes);
  return map;
}

Charsmap::Match Charsmap::longest_match(std::string_view text) const {
  if (units_.empty()) return {};
  size_t size = 0;
  size_t value = 0;
  size_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) break;
    const bool ends = has_value(units_[node]);
    node ^= offset_of(units_[node]);
    if (node >= units_.size()) break;
    if (ends) {
      size = i + 1;
      value = value_of(units_[node]);
    }
  }
  if (size == 0 || value >= replacements_.size()) return {};
  const size_t end = replacements_.find('\0', value);
  if (end == std::string::npos) return {};
  return {size, std::string_view(replacements_).substr(value, end - value)};
}

}  // namespace lcrun::text
