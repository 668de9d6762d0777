// WordPiece ("bert"): words of the normalised text, each cut greedily into the longest tokens from its start
// (Schuster and Nakajima 2012; BERT's form). In the vocabulary a token that starts a word begins with U+2581.
// Thread rule: immutable.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/text/token_trie.hpp"
#include "src/text/tokenizer_base.hpp"

namespace lcrun::text {

struct WordPieceOptions {
  bool lowercase = true;
  bool strip_accents = true;
};

class WordPieceTokenizer final : public TokenizerBase {
 public:
  WordPieceTokenizer(Vocab vocab, WordPieceOptions options);

 protected:
  void encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const override;
  Token end_token() const override { return vocab().special().sep; }

 private:
  // `word` begins with U+2581.
  void encode_word(std::string_view word, std::vector<Token>& out) const;

  WordPieceOptions options_;
  TokenTrie trie_;
};

}  // namespace lcrun::text
