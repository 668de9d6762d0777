// Remembers, within one call of encode, what words became: text repeats its words, merging them anew costs ten
// times the look-up. Direct-mapped: a word evicts the one in its slot. Nothing outlives the call, nothing is copied:
// entries point into the text and into the output so far.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <string_view>
#include <vector>

#include "src/text/tokenizer.hpp"

namespace lcrun::text {

class WordCache {
 public:
  explicit WordCache(size_t text_bytes) : slots_(std::bit_ceil(std::clamp<size_t>(text_bytes / 32, 1, 1 << 15))) {}

  // Appends the tokens of `word` to `out`, by encode(word, out) when it is not remembered. Word and out must stay
  // where they are for the life of the cache (out may grow).
  template <class Encode>
  void append(std::string_view word, std::vector<Token>& out, const Encode& encode) {
    if (word.size() > kMaxWordBytes) return encode(word, out);
    Slot& slot = slots_[XXH3_64bits(word.data(), word.size()) & (slots_.size() - 1)];
    if (slot.word == word) {
      const size_t end = out.size();
      out.resize(end + slot.count);
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(slot.first), slot.count,
                  out.begin() + static_cast<std::ptrdiff_t>(end));
      return;
    }
    const size_t first = out.size();
    encode(word, out);
    slot = {word, first, out.size() - first};
  }

 private:
  static constexpr size_t kMaxWordBytes = 64;
  struct Slot {
    std::string_view word;
    size_t first = 0;
    size_t count = 0;
  };
  std::vector<Slot> slots_;
};

}  // namespace lcrun::text
