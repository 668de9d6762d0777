// Normalisation into words, and the greedy cutting of words.
#include "src/text/wpm.hpp"

#include "src/text/unicode.hpp"

namespace lcrun::text {

namespace {

// Ideographs are words by themselves. The ranges are those of the tokenizers in use (0x2B920, not 0x2B820).
bool is_ideograph(uint32_t cp) {
  return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
         (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
         (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

bool stands_alone(uint32_t cp, CharClass bits) {
  return (bits & kPunct) != 0 || (cp < 0x7F && (bits & kSymbol) != 0) || is_ideograph(cp);
}

}  // namespace

WordPieceTokenizer::WordPieceTokenizer(Vocab loaded, WordPieceOptions options)
    : TokenizerBase(std::move(loaded), "bert", "default"),
      options_(options),
      trie_(vocab(), 0xFF, kControlToken | kUnknownToken) {}

void WordPieceTokenizer::encode_text(std::string_view text, bool, std::vector<Token>& out) const {
  std::string word(kBlankMark);
  const auto flush = [&] {
    if (word.size() > kBlankMark.size()) encode_word(word, out);
    word.resize(kBlankMark.size());
  };
  for (size_t at = 0; at < text.size();) {
    const CodePoint read = decode_code_point(text, at);
    at += read.size;
    const uint32_t cp = options_.strip_accents ? base_letter(read.value) : read.value;
    const CharClass bits = char_class(cp);
    if ((bits & kSpace) != 0) {
      flush();
      continue;
    }
    if (cp == 0 || cp == 0xFFFD || (bits & kControl) != 0) continue;
    if (options_.strip_accents && (bits & kMark) != 0) continue;
    const bool alone = stands_alone(cp, bits);
    if (alone) flush();
    append_utf8(options_.lowercase ? to_lower(cp) : cp, word);
    if (alone) flush();
  }
  flush();
}

void WordPieceTokenizer::encode_word(std::string_view word, std::vector<Token>& out) const {
  const size_t first = out.size();
  for (size_t begin = 0; begin < word.size();) {
    Token longest = -1;
    size_t longest_end = begin;
    int32_t node = TokenTrie::kRoot;
    for (size_t end = begin; end < word.size();) {
      node = trie_.child(node, word[end++]);
      if (node < 0) break;
      if (trie_.token(node) < 0) continue;
      longest = trie_.token(node);
      longest_end = end;
    }
    if (longest < 0) {  // the word as a whole is unknown
      out.resize(first);
      out.push_back(vocab().special().unk);
      return;
    }
    out.push_back(longest);
    begin = longest_end;
  }
}

Result<std::unique_ptr<const Tokenizer>> load_word_piece(const ggufish::Metadata& meta) {
  LCRUN_ASSIGN(Vocab vocab, Vocab::load(meta, VocabKind::kWordPiece));
  WordPieceOptions options;
  LCRUN_ASSIGN(options.lowercase, meta.bool_or("tokenizer.ggml.normalizer.lowercase", true));
  LCRUN_ASSIGN(options.strip_accents, meta.bool_or("tokenizer.ggml.normalizer.strip_accents", options.lowercase));
  return std::unique_ptr<const Tokenizer>(std::make_unique<WordPieceTokenizer>(std::move(vocab), options));
}

}  // namespace lcrun::text
