// Unigram ("t5"): the cutting of the text into tokens with the highest sum of scores (Kudo 2018), found by dynamic
// programming over byte positions, after SentencePiece's normalisation. Thread rule: immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/text/charsmap.hpp"
#include "src/text/token_trie.hpp"
#include "src/text/tokenizer_base.hpp"

namespace lcrun::text {

class UnigramTokenizer final : public TokenizerBase {
 public:
  // merges_blanks: runs of blanks become one, those at the ends none.
  UnigramTokenizer(Vocab vocab, Charsmap charsmap, bool merges_blanks);

 protected:
  void encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const override;

 private:
  std::string normalise(std::string_view text) const;

  Charsmap charsmap_;
  bool merges_blanks_;
  TokenTrie trie_;
  double unknown_score_ = 0;
};

}  // namespace lcrun::text
