// A minimal byte-level BPE vocabulary, so that tiny models also run from the command line.
#include "tests/support/tiny_vocab.hpp"

#include <array>

namespace lcrun::testing {
namespace {

std::string utf8(uint32_t code) {
  std::string out;
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else {
    out.push_back(static_cast<char>(0xC0U | (code >> 6U)));
    out.push_back(static_cast<char>(0x80U | (code & 0x3FU)));
  }
  return out;
}

// GPT-2's map from bytes to visible characters: printable bytes stand for themselves, the rest are moved to 256+.
std::vector<std::string> byte_symbols() {
  std::vector<std::string> symbols;
  uint32_t moved = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    symbols.push_back(utf8(visible ? byte : moved));
    if (!visible) ++moved;
  }
  return symbols;
}

}  // namespace

void add_tiny_vocab(TinyRecipe& recipe) {
  constexpr std::array<const char*, 40> kPairs = {"th", "in", "er", "an", "re", "on", "at", "en", "nd", "ou",
                                                  "es", "or", "it", "is", "ar", "st", "to", "al", "of", "ed",
                                                  "as", "le", "ve", "se", "me", "de", "hi", "ri", "ro", "ic",
                                                  "ne", "ea", "ra", "ce", "li", "ch", "ll", "be", "ma", "si"};
  std::vector<std::string> tokens = byte_symbols();
  std::vector<std::string> merges;
  for (const char* pair : kPairs) {
    tokens.emplace_back(pair);
    merges.push_back(std::string(1, pair[0]) + " " + std::string(1, pair[1]));
  }
  std::vector<int32_t> types(tokens.size(), 1);  // 1 = normal
  for (const char* special : {"<|bos|>", "<|eos|>", "<|pad|>", "<|sep|>"}) {
    tokens.emplace_back(special);
    types.push_back(3);  // 3 = control
  }
  recipe.keys.push_back({"tokenizer.ggml.model", std::string("gpt2")});
  recipe.keys.push_back({"tokenizer.ggml.pre", std::string("default")});
  recipe.keys.push_back({"tokenizer.ggml.tokens", std::move(tokens)});
  recipe.keys.push_back({"tokenizer.ggml.token_type", std::move(types)});
  recipe.keys.push_back({"tokenizer.ggml.merges", std::move(merges)});
  recipe.keys.push_back({"tokenizer.ggml.bos_token_id", uint32_t{296}});
  recipe.keys.push_back({"tokenizer.ggml.eos_token_id", uint32_t{297}});
  recipe.keys.push_back({"tokenizer.ggml.padding_token_id", uint32_t{298}});
  recipe.keys.push_back({"tokenizer.ggml.add_bos_token", false});
}

}  // namespace lcrun::testing
