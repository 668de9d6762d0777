// Fuzz target: a vocabulary and a text -> ids -> text.
//
// Input: byte 0 picks the kind, byte 1 the pre-tokenizer. Kinds 0 and 1 have fixed vocabularies that hold every byte:
// the rest is text. From kind 2 on the rest up to the first 0x1E is a vocabulary (lines: a byte for the type, then
// the text; a text with a blank is a merge too), what follows is the text.
// Laws: no crash; every id is a token; no more ids than bytes allow; with a fixed vocabulary the text comes back.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "ggufish/writer.hpp"
#include "src/base/check.hpp"
#include "src/base/log.hpp"
#include "src/text/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::text;

struct FuzzVocab {
  std::string model;
  std::string pre;
  std::vector<std::string> tokens = {};
  std::vector<int32_t> types = {};
  std::vector<std::string> merges = {"a b"};

  void add(std::string token, int32_t type) {
    tokens.push_back(std::move(token));
    types.push_back(type);
  }

  std::unique_ptr<const Tokenizer> load() const {
    ggufish::Writer writer;
    writer.add_string("tokenizer.ggml.model", model);
    writer.add_string("tokenizer.ggml.pre", pre);
    writer.add_strings("tokenizer.ggml.tokens", tokens);
    writer.add_i32s("tokenizer.ggml.token_type", types);
    writer.add_strings("tokenizer.ggml.merges", merges);
    std::vector<float> scores;
    for (size_t i = 0; i < tokens.size(); ++i) scores.push_back(-static_cast<float>(i * 7 % 13));
    writer.add_f32s("tokenizer.ggml.scores", scores);
    writer.add_i32("tokenizer.ggml.unknown_token_id", 0);
    const auto bytes = writer.finish();
    LCRUN_CHECK(bytes);
    const auto file = ggufish::ModelFile::parse(*bytes, "fuzz.gguf");
    LCRUN_CHECK(file);
    auto tokenizer = Tokenizer::load(**file);
    if (!tokenizer) {
      LCRUN_CHECK(!tokenizer.error().message.empty());
      return nullptr;
    }
    return std::move(tokenizer).value();
  }
};

FuzzVocab every_byte(bool byte_level, std::string pre) {
  FuzzVocab vocab{.model = byte_level ? "gpt2" : "llama", .pre = std::move(pre)};
  if (!byte_level) vocab.add("\xE2\x96\x81", 1);
  unsigned spare = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    if (!byte_level) {
      vocab.add(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", 6);
      continue;
    }
    const bool prints = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    const unsigned cp = prints ? byte : spare++;
    vocab.add(cp < 0x80 ? std::string(1, static_cast<char>(cp))
                        : std::string{static_cast<char>(0xC0 | cp >> 6), static_cast<char>(0x80 | (cp & 0x3F))},
              1);
  }
  for (const char* joined : {"ab", "abc", "aa", "aaaa"}) vocab.add(joined, 1);
  vocab.merges = {"a b", "ab c", "a a", "aa aa"};
  return vocab;
}

FuzzVocab from_lines(int kind, std::string pre, std::string_view lines) {
  constexpr const char* kModels[] = {"gpt2", "llama", "t5", "bert"};
  FuzzVocab vocab{.model = kModels[kind % 4], .pre = std::move(pre)};
  vocab.add("<unk>", 2);
  std::set<std::string> known{"<unk>"};
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    if (line.size() < 2) continue;
    std::string text(line.substr(1));
    if (text.find(' ', 1) != std::string::npos) vocab.merges.push_back(text);
    if (known.insert(text).second) vocab.add(std::move(text), line[0] % 8);
  }
  return vocab;
}

// U+2581 is a blank to SentencePiece, so it does not come back as it was.
bool comes_back(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.model_name() == "gpt2" || text.find("\xE2\x96\x81") == std::string_view::npos;
}

void check_text(const Tokenizer& tokenizer, std::string_view text, bool round_trip) {
  const auto plain = tokenizer.encode(text, false, false);
  // A blank is three bytes where it is marked; one mark may come before each stretch of text.
  LCRUN_CHECK(plain.size() <= text.size() * 6 + 3);
  for (const Token id : plain) LCRUN_CHECK(id >= 0 && id < tokenizer.vocab_size());
  const std::string back = tokenizer.decode(plain, true);
  LCRUN_CHECK(!round_trip || !comes_back(tokenizer, text) || back == text);
  (void)tokenizer.encode(text, true, true);

  const size_t middle = text.size() / 2;
  const std::vector<Span> spans = {{text.substr(0, middle), false}, {text.substr(middle), false}};
  // Where no special token lies across the border, cutting changes nothing; here none exist.
  LCRUN_CHECK(!round_trip || tokenizer.encode_spans(spans, false) == plain);

  Utf8Stream stream;
  std::string repaired;
  for (const Token id : plain) stream.push(tokenizer.piece(id, true), repaired);
  stream.finish(repaired);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  set_log_level(LogLevel::kOff);
  static const std::vector<std::string> names = known_pre_tokenizers();
  const int kind = data[0] % 6;
  const std::string pre = names[data[1] % names.size()];
  std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (kind < 2) {
    // Raw vocabularies know bytes under other names than this one gives them.
    const bool raw = pre == "gemma4" || pre == "sarvam-moe" || pre == "granite-embed-multi-311m";
    const auto tokenizer = every_byte(kind == 0, raw ? "gpt-2" : pre).load();
    LCRUN_CHECK(tokenizer != nullptr);
    check_text(*tokenizer, rest, true);
    return 0;
  }
  const size_t border = rest.find('\x1E');
  const auto tokenizer = from_lines(kind - 2, pre, rest.substr(0, border)).load();
  if (tokenizer && border != std::string_view::npos) check_text(*tokenizer, rest.substr(border + 1), false);
  return 0;
}
