// Byte-pair encoding ("gpt2" and its heirs): words from the pre-tokenizer, merged pair by pair in the order of the
// merge list (Sennrich et al. 2016, in GPT-2's byte-level form).
//
// Byte-level: every byte stands for one printable character in vocabulary texts, so any bytes can be encoded and
// come back as they were. Raw form ("gemma4"): symbols are code points, blanks U+2581, other bytes "<0xHH>" tokens.
// Merges whose parts or result are no tokens are kept under ids beyond the vocabulary; should one survive, its
// bytes are spelt out. Thread rule: immutable.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/text/merge.hpp"
#include "src/text/pretokenize.hpp"
#include "src/text/tokenizer_base.hpp"

namespace lcrun::text {

class BpeTokenizer final : public TokenizerBase {
 public:
  BpeTokenizer(Vocab vocab, std::string model_name, const PreTokenizer& pre);
  // Each "left right"; rank = position.
  void add_merges(std::span<const std::string_view> merges);

 protected:
  void encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const override;
  std::string text_of(std::string_view vocab_text) const override;

 private:
  struct PairSlot {
    uint64_t pair = kNoPair;  // left id, right id
    uint32_t rank = 0;
    int32_t joined = -1;
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;
  static uint64_t pair_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }

  int32_t symbol_of(std::string_view text) const;
  int32_t symbol_or_new(std::string_view text);
  const PairSlot& find_pair(uint64_t pair) const;
  void encode_word(std::string_view word, Merger& merger, std::vector<Token>& out) const;
  bool encode_whole(std::string_view word, std::vector<Token>& out) const;
  void push_symbols(std::string_view word, Merger& merger) const;
  void emit(const MergeSymbol& symbol, std::string_view word, std::vector<Token>& out) const;

  const PreTokenizer& pre_;
  std::array<int32_t, 256> byte_symbols_{};
  std::unordered_map<std::string, int32_t> extra_symbols_;  // texts that are no tokens
  std::vector<PairSlot> pairs_;                             // power of two
};

}  // namespace lcrun::text
