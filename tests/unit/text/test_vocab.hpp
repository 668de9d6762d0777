// Vocabularies for tests, made in memory as a GGUF file and loaded as any other: what a test says is what is in
// tokenizer.ggml.*; fields left empty are left out.
#pragma once

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ggufish/model_file.hpp"
#include "ggufish/writer.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::text::testing {

inline constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

struct TestVocab {
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  std::string name;
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  std::vector<std::string> merges;
  bool with_merges = true;
  std::vector<int32_t> charsmap;
  std::map<std::string, int32_t> ids;    // "bos_token_id" ...
  std::map<std::string, bool> switches;  // "add_bos_token" ...

  Token add(std::string text, int32_t type = kNormal, float score = 0) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    scores.push_back(score);
    return static_cast<Token>(tokens.size() - 1);
  }
  // <0x00> ... <0xFF>
  void add_bytes() {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte) {
      add(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", kByte);
    }
  }

  std::vector<std::byte> file() const {
    ggufish::Writer writer;
    writer.add_string("general.architecture", "llama");
    if (!name.empty()) writer.add_string("general.name", name);
    if (!model.empty()) writer.add_string("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.add_string("tokenizer.ggml.pre", pre);
    if (!tokens.empty()) writer.add_strings("tokenizer.ggml.tokens", tokens);
    if (!scores.empty()) writer.add_f32s("tokenizer.ggml.scores", scores);
    if (!types.empty()) writer.add_i32s("tokenizer.ggml.token_type", types);
    if (model == "gpt2" && with_merges) writer.add_strings("tokenizer.ggml.merges", merges);
    if (!charsmap.empty()) writer.add_i32s("tokenizer.ggml.precompiled_charsmap", charsmap);
    for (const auto& [key, id] : ids) writer.add_i32("tokenizer.ggml." + key, id);
    for (const auto& [key, on] : switches) writer.add_bool("tokenizer.ggml." + key, on);
    auto bytes = writer.finish();
    REQUIRE(bytes);
    return std::move(bytes).value();
  }

  Result<std::unique_ptr<const Tokenizer>> try_load() const {
    const std::vector<std::byte> bytes = file();
    auto parsed = ggufish::ModelFile::parse(bytes, "test.gguf");
    if (!parsed) return Error(parsed.error());
    return Tokenizer::load(**parsed);  // keeps nothing of the file
  }
  std::unique_ptr<const Tokenizer> load() const {
    auto tokenizer = try_load();
    if (!tokenizer) FAIL(tokenizer.error().message);
    return std::move(tokenizer).value();
  }
};

// GPT-2's character for a byte, by its definition: bytes that print stand for themselves, the n-th other for
// U+0100 + n.
inline std::string spelt(unsigned byte) {
  const auto prints = [](unsigned b) { return (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD); };
  unsigned code_point = byte;
  if (!prints(byte)) {
    code_point = 0x100;
    for (unsigned b = 0; b < byte; ++b) code_point += prints(b) ? 0 : 1;
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
}

// A byte-level vocabulary of the 256 bytes (token id = byte) and the merges given; their results are tokens.
inline TestVocab byte_vocab(std::vector<std::string> merges = {}) {
  TestVocab vocab;
  for (unsigned byte = 0; byte < 256; ++byte) vocab.add(spelt(byte));
  for (const std::string& merge : merges) {
    const size_t blank = merge.find(' ', 1);
    vocab.add(merge.substr(0, blank) + merge.substr(blank + 1));
  }
  vocab.merges = std::move(merges);
  if (vocab.merges.empty()) vocab.merges.push_back("unused unused");
  vocab.scores.clear();
  return vocab;
}

}  // namespace lcrun::text::testing
