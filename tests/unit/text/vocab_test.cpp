// What vocabularies may get wrong, and what their tokens mean.
#include <algorithm>
#include <limits>

#include "src/base/log.hpp"
#include "tests/support/random.hpp"
#include "tests/unit/text/test_vocab.hpp"

namespace lcrun::text {
namespace {

using testing::byte_vocab;
using testing::kControl;
using testing::TestVocab;

void check_refused(const TestVocab& vocab, Code code, const std::string& part) {
  const auto tokenizer = vocab.try_load();
  REQUIRE_FALSE(tokenizer);
  CHECK(tokenizer.error().code == code);
  CHECK_THAT(tokenizer.error().message, Catch::Contains(part));
}

TEST_CASE("unknown models and pre-tokenizers are refused with the list of known ones", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.pre = "gpt-5000";
  check_refused(vocab, Code::kUnsupported, "llama-bpe");
  vocab.model = "rwkv";
  check_refused(vocab, Code::kUnsupported, "\"gpt2\"");
  vocab.model = "";
  check_refused(vocab, Code::kBadModel, "tokenizer.ggml.model");
}

TEST_CASE("missing arrays are refused", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.with_merges = false;
  check_refused(vocab, Code::kBadModel, "merges");
  vocab = byte_vocab();
  vocab.tokens.clear();
  check_refused(vocab, Code::kBadModel, "tokens");
  vocab = byte_vocab();
  vocab.model = "llama";
  check_refused(vocab, Code::kBadModel, "scores");
}

TEST_CASE("arrays that do not fit the tokens are refused", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.types.pop_back();
  check_refused(vocab, Code::kBadModel, "token_type");
  vocab = byte_vocab();
  vocab.scores = {1, 2};
  check_refused(vocab, Code::kBadModel, "scores");
  vocab.scores.assign(vocab.tokens.size(), 0);
  vocab.scores[7] = std::numeric_limits<float>::quiet_NaN();
  check_refused(vocab, Code::kBadModel, "token 7");
  vocab = byte_vocab();
  vocab.tokens[9] = vocab.tokens[8];
  check_refused(vocab, Code::kBadModel, "8 and 9");
}

TEST_CASE("special ids out of range are dropped", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.ids = {{"bos_token_id", 256}, {"eos_token_id", -5}, {"padding_token_id", 3}};
  vocab.switches = {{"add_bos_token", true}, {"add_eos_token", true}};
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->special().bos == -1);
  CHECK(tokenizer->special().eos == -1);
  CHECK(tokenizer->special().pad == 3);
  CHECK_FALSE(tokenizer->adds_bos());
  CHECK(tokenizer->encode("a", true, false) == std::vector<Token>{'a'});
}

TEST_CASE("ids outside of the vocabulary have no text", "[text]") {
  const auto tokenizer = byte_vocab().load();
  for (const Token id : {-1, 256, INT32_MIN, INT32_MAX}) {
    CHECK(tokenizer->piece(id, true).empty());
    CHECK(tokenizer->raw_text(id).empty());
    CHECK_FALSE(tokenizer->is_control(id));
    CHECK_FALSE(tokenizer->is_end_of_generation(id));
  }
}

TEST_CASE("odd tokens are taken as text", "[text]") {
  TestVocab vocab = byte_vocab();
  const Token empty = vocab.add("");
  const Token minus = vocab.add("<0x-1>", testing::kByte);
  const Token cut = vocab.add("<0x", testing::kByte);
  const Token invalid = vocab.add("\xFF\xFE\x80");
  const Token huge = vocab.add(std::string(1 << 20, 'x'), kControl);
  vocab.scores.clear();
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->piece(empty, true) == "[EMPTY_256]");
  CHECK(tokenizer->piece(minus, true) == "<0x-1>");
  CHECK(tokenizer->piece(cut, true) == "<0x");
  CHECK(tokenizer->piece(invalid, true) == "\xFF\xFE\x80");
  CHECK(tokenizer->encode(std::string(1 << 20, 'x'), false, true) == std::vector<Token>{huge});
}

TEST_CASE("well-known names end a reply", "[text]") {
  TestVocab vocab = byte_vocab();
  const Token im_end = vocab.add("<|im_end|>");
  const Token other = vocab.add("<|other|>", kControl);
  const Token file = vocab.add("<|file_sep|>");
  vocab.scores.clear();
  vocab.ids = {{"eos_token_id", 65}};
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->special().eot == im_end);
  CHECK(tokenizer->is_control(im_end));
  CHECK(tokenizer->is_end_of_generation(im_end));
  CHECK(tokenizer->is_end_of_generation(file));
  CHECK(tokenizer->is_end_of_generation(65));
  CHECK_FALSE(tokenizer->is_end_of_generation(other));
}

TEST_CASE("parts of a reply do not end it", "[text]") {
  TestVocab vocab = byte_vocab();
  const Token end = vocab.add("<|end|>", kControl);
  const Token done = vocab.add("<|return|>", kControl);
  const Token call = vocab.add("<|call|>", kControl);
  const Token channel = vocab.add("<|channel|>", kControl);
  vocab.scores.clear();
  const auto tokenizer = vocab.load();
  CHECK_FALSE(tokenizer->is_end_of_generation(end));
  CHECK(tokenizer->is_end_of_generation(done));
  CHECK(tokenizer->is_end_of_generation(call));
  CHECK_FALSE(tokenizer->is_control(channel));
  CHECK(tokenizer->piece(channel, false) == "<|channel|>");
}

TEST_CASE("BOS is added where the kind or the file says so", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.ids = {{"bos_token_id", 1}, {"eos_token_id", 2}};
  CHECK(vocab.load()->encode("a", true, false) == std::vector<Token>{'a'});
  vocab.pre = "llama-bpe";
  CHECK(vocab.load()->encode("a", true, false) == std::vector<Token>{1, 'a'});
  vocab.switches = {{"add_bos_token", false}, {"add_eos_token", true}};
  CHECK(vocab.load()->encode("a", true, false) == std::vector<Token>{'a', 2});
}

TEST_CASE("random damage to a vocabulary is refused or harmless", "[text]") {
  struct Quiet {  // hundreds of warnings are due here
    LogLevel before = log_level();
    Quiet() { set_log_level(LogLevel::kOff); }
    ~Quiet() { set_log_level(before); }
  } quiet;
  test::Random random(23);
  for (int round = 0; round < 120; ++round) {
    TestVocab vocab;
    const char* models[] = {"gpt2", "llama", "t5", "bert"};
    vocab.model = models[random.below(4)];
    for (int64_t n = random.below(40); n > 0; --n) {
      std::string text;
      for (int64_t k = random.below(6); k > 0; --k) text.push_back(static_cast<char>(random.below(256)));
      vocab.add(text, static_cast<int32_t>(random.below(9)) - 1, random.uniform(-9, 9));
    }
    for (int64_t n = random.below(6); n > 0; --n) {
      vocab.merges.push_back(vocab.tokens.empty() ? "x" : vocab.tokens[0] + " " + vocab.tokens.back());
    }
    for (const char* key : {"bos_token_id", "eos_token_id", "unknown_token_id", "seperator_token_id"}) {
      if (random.below(2) == 0) vocab.ids[key] = static_cast<int32_t>(random.below(60)) - 10;
    }
    for (int64_t n = random.below(40); n > 0; --n) {
      vocab.charsmap.push_back(static_cast<int32_t>(random.below(3) == 0 ? random.below(256) : 0));
    }
    const auto tokenizer = vocab.try_load();
    if (!tokenizer) {
      CHECK_FALSE(tokenizer.error().message.empty());
      continue;
    }
    for (const std::string& text : {std::string(), std::string("a \xFF\0b<0x41>", 11), vocab.tokens[0]}) {
      for (const Token id : (*tokenizer)->encode(text, true, true)) {
        CHECK((id >= 0 && id < (*tokenizer)->vocab_size()));
        (void)(*tokenizer)->piece(id, true);
      }
    }
  }
}

}  // namespace
}  // namespace lcrun::text
