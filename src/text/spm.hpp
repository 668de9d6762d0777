// SentencePiece BPE ("llama"): neighbouring pieces join while their text is a token, highest score first; characters
// that no token spells become "<0xHH>" bytes (Kudo and Richardson 2018, section 3.1).
//
// Merging runs over the whole text, not over words. It still falls into independent stretches: where no token holds
// the two characters side by side nothing ever joins across, so the text may be cut there and repeated stretches
// remembered, with the same result. Which neighbours may join is kept as a bit table over hashed pairs (a false "may"
// costs time, never exactness). Thread rule: immutable.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "src/text/merge.hpp"
#include "src/text/tokenizer_base.hpp"

namespace lcrun::text {

class SpmTokenizer final : public TokenizerBase {
 public:
  SpmTokenizer(Vocab vocab, std::string model_name);

 protected:
  void encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const override;

 private:
  static size_t bit_of(std::string_view left, std::string_view right);
  bool may_join(std::string_view left, std::string_view right) const;
  void encode_stretch(std::string_view stretch, Merger& merger, std::vector<Token>& out) const;
  void emit_unmerged(std::string_view text, std::vector<Token>& out) const;

  std::vector<uint64_t> neighbours_;
};

}  // namespace lcrun::text
