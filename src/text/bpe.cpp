// Loading of merges into a table of id pairs, and the encoding of words with it.
#include "src/text/bpe.hpp"

#include <bit>

#include "src/base/format.hpp"
#include "src/text/word_cache.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kPreKey = "tokenizer.ggml.pre";

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 on, in order.
struct ByteAlphabet {
  std::array<uint16_t, 256> char_of{};   // byte -> code point
  std::array<int16_t, 0x144> byte_of{};  // code point -> byte or -1

  constexpr ByteAlphabet() {
    for (int16_t& byte : byte_of) byte = -1;
    uint16_t spare = 0x100;
    for (uint16_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const uint16_t c = printable ? byte : spare++;
      char_of[byte] = c;
      byte_of[c] = static_cast<int16_t>(byte);
    }
  }
};
constexpr ByteAlphabet kAlphabet;

std::string spell(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) append_utf8(kAlphabet.char_of[static_cast<uint8_t>(c)], text);
  return text;
}

size_t pair_hash(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15u;  // Fibonacci hashing: the high bits are well mixed
  return static_cast<size_t>(pair ^ (pair >> 32));
}

}  // namespace

BpeTokenizer::BpeTokenizer(Vocab vocab, std::string model_name, const PreTokenizer& pre)
    : TokenizerBase(std::move(vocab), std::move(model_name), std::string(pre.name)), pre_(pre) {
  for (size_t byte = 0; byte < byte_symbols_.size(); ++byte) {
    byte_symbols_[byte] = symbol_or_new(spell(std::string(1, static_cast<char>(byte))));
  }
}

int32_t BpeTokenizer::symbol_of(std::string_view text) const {
  const Token token = vocab().find_plain(text);
  if (token >= 0 || extra_symbols_.empty()) return token;
  const auto extra = extra_symbols_.find(std::string(text));
  return extra == extra_symbols_.end() ? -1 : extra->second;
}

int32_t BpeTokenizer::symbol_or_new(std::string_view text) {
  const Token token = vocab().find_plain(text);
  if (token >= 0) return token;
  const auto fresh = vocab().size() + static_cast<int32_t>(extra_symbols_.size());
  return extra_symbols_.try_emplace(std::string(text), fresh).first->second;
}

void BpeTokenizer::add_merges(std::span<const std::string_view> merges) {
  pairs_.assign(std::bit_ceil(merges.size() * 2 + 1), PairSlot{});
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    // The first character belongs to the left part even if it is a blank. No blank at all: no pair.
    const size_t blank = merge.find(' ', 1);
    if (blank == std::string_view::npos || blank + 1 == merge.size()) continue;
    const std::string_view left = merge.substr(0, blank);
    const std::string_view right = merge.substr(blank + 1);
    joined.assign(left).append(right);
    const uint64_t pair = pair_of(symbol_or_new(left), symbol_or_new(right));
    const size_t mask = pairs_.size() - 1;
    size_t at = pair_hash(pair) & mask;
    while (pairs_[at].pair != kNoPair && pairs_[at].pair != pair) at = (at + 1) & mask;
    if (pairs_[at].pair == pair) continue;  // the first of equals counts
    pairs_[at] = {pair, static_cast<uint32_t>(rank), symbol_or_new(joined)};
  }
}

const BpeTokenizer::PairSlot& BpeTokenizer::find_pair(uint64_t pair) const {
  const size_t mask = pairs_.size() - 1;
  size_t at = pair_hash(pair) & mask;
  while (pairs_[at].pair != kNoPair && pairs_[at].pair != pair) at = (at + 1) & mask;
  return pairs_[at];
}

void BpeTokenizer::encode_text(std::string_view text, bool, std::vector<Token>& out) const {
  std::string escaped;
  if (pre_.raw_utf8) {
    append_escaped(text, escaped);
    text = escaped;
  }
  Merger merger;
  WordCache cache(text.size());
  const auto encode = [&](std::string_view word, std::vector<Token>& tokens) { encode_word(word, merger, tokens); };
  pre_tokenize(text, pre_.stages, [&](std::string_view word) { cache.append(word, out, encode); });
}

void BpeTokenizer::encode_word(std::string_view word, Merger& merger, std::vector<Token>& out) const {
  if (encode_whole(word, out)) return;
  push_symbols(word, merger);
  merger.run([&](const MergeSymbol& left, const MergeSymbol& right) -> Joined {
    if (left.id < 0 || right.id < 0) return {};
    const PairSlot& slot = find_pair(pair_of(left.id, right.id));
    return {slot.rank, slot.joined};
  });
  for (const MergeSymbol& symbol : merger.symbols) {
    if (symbol.size > 0) emit(symbol, word, out);
  }
}

bool BpeTokenizer::encode_whole(std::string_view word, std::vector<Token>& out) const {
  const bool newlines = pre_.newline_runs_whole && word.find_first_not_of('\n') == std::string_view::npos;
  if (!pre_.ignore_merges && !newlines) return false;
  if (word.size() > vocab().max_text_bytes()) return false;
  const Token token = vocab().find_plain(pre_.raw_utf8 ? std::string(word) : spell(word));
  if (token < 0) return false;
  out.push_back(token);
  return true;
}

void BpeTokenizer::push_symbols(std::string_view word, Merger& merger) const {
  merger.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t size = pre_.raw_utf8 ? unit_size(word, at) : 1;
    const int32_t id = pre_.raw_utf8 ? symbol_of(word.substr(at, size)) : byte_symbols_[static_cast<uint8_t>(word[at])];
    merger.push(static_cast<uint32_t>(at), static_cast<uint32_t>(size), id);
    at += size;
  }
}

void BpeTokenizer::emit(const MergeSymbol& symbol, std::string_view word, std::vector<Token>& out) const {
  if (vocab().has(symbol.id)) {
    out.push_back(symbol.id);
    return;
  }
  for (const char c : word.substr(symbol.begin, symbol.size)) {
    const auto byte = static_cast<uint8_t>(c);
    const Token token = pre_.raw_utf8 ? vocab().byte_token(byte) : byte_symbols_[byte];
    // A byte that the vocabulary lacks is dropped, as in the reference runtime: the unknown token of such
    // vocabularies is often the one that ends a text, which no typed byte may become.
    if (vocab().has(token)) out.push_back(token);
  }
}

std::string BpeTokenizer::text_of(std::string_view vocab_text) const {
  if (pre_.raw_utf8) return unescape_blanks(vocab_text);
  std::string bytes;
  for (size_t at = 0; at < vocab_text.size();) {
    const CodePoint cp = decode_code_point(vocab_text, at);
    const int byte = cp.value < kAlphabet.byte_of.size() ? kAlphabet.byte_of[cp.value] : -1;
    if (byte >= 0) {
      bytes.push_back(static_cast<char>(byte));
    } else {
      bytes += vocab_text.substr(at, cp.size);  // no character of the alphabet: stands for itself
    }
    at += cp.size;
  }
  return bytes;
}

Result<std::unique_ptr<const Tokenizer>> load_bpe(const ggufish::Metadata& meta, std::string_view model_name) {
  std::string pre_name;
  if (meta.has(kPreKey)) {
    LCRUN_ASSIGN(pre_name, meta.get_string(kPreKey));
  }
  if (model_name == "gemma4") pre_name = "gemma4";
  const PreTokenizer* pre = find_pre_tokenizer(pre_name);
  if (pre == nullptr) {
    std::string names;
    for (const std::string& name : known_pre_tokenizers()) names += (names.empty() ? "" : ", ") + name;
    Error error = meta.fail(kPreKey, format("\"{}\"", pre_name), format("one of: {}", names));
    error.code = Code::kUnsupported;
    return error;
  }
  LCRUN_ASSIGN(Vocab vocab, Vocab::load(meta, VocabKind::kBpe));
  if (!meta.has("tokenizer.ggml.add_bos_token")) vocab.adds_bos = pre->adds_bos;
  if (pre->forces_bos) vocab.adds_bos = true;
  LCRUN_ASSIGN(const std::vector<std::string_view> merges, meta.get_strings(kMergesKey));
  auto tokenizer = std::make_unique<BpeTokenizer>(std::move(vocab), std::string(model_name), *pre);
  tokenizer->add_merges(merges);
  return std::unique_ptr<const Tokenizer>(std::move(tokenizer));
}

}  // namespace lcrun::text
