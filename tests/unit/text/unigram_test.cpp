// Unigram and WordPiece: the search against a slow twin, normalisation, damaged maps.
#include <algorithm>
#include <cmath>

#include "tests/support/random.hpp"
#include "tests/unit/text/test_vocab.hpp"

namespace lcrun::text {
namespace {

using testing::TestVocab;

constexpr const char* kMark = "\xE2\x96\x81";

TestVocab unigram_vocab() {
  TestVocab vocab;
  vocab.model = "t5";
  vocab.pre = "";
  vocab.add("<pad>", testing::kControl);
  vocab.add("</s>", testing::kControl);
  vocab.add("<unk>", testing::kUnknown);
  vocab.switches = {{"add_eos_token", false}};
  return vocab;
}

// Score of the best cutting of `text` (letters that are tokens), by trying all.
double best_score(const TestVocab& vocab, const std::string& text) {
  std::vector<double> best(text.size() + 1, -1e30);
  best[0] = 0;
  for (size_t end = 1; end <= text.size(); ++end) {
    for (size_t begin = 0; begin < end; ++begin) {
      const auto token = std::find(vocab.tokens.begin(), vocab.tokens.end(), text.substr(begin, end - begin));
      if (token == vocab.tokens.end()) continue;
      const auto score = static_cast<double>(vocab.scores[static_cast<size_t>(token - vocab.tokens.begin())]);
      best[end] = std::max(best[end], best[begin] + score);
    }
  }
  return best[text.size()];
}

TEST_CASE("the unigram search finds the best sum of scores", "[text]") {
  test::Random random(31);
  for (int round = 0; round < 20; ++round) {
    TestVocab vocab = unigram_vocab();
    for (const char* letter : {"a", "b", "c"}) vocab.add(letter, testing::kNormal, random.uniform(-9, -5));
    for (int i = 0; i < 12; ++i) {
      std::string text;
      for (int64_t n = 2 + random.below(4); n > 0; --n) text.push_back(static_cast<char>('a' + random.below(3)));
      if (std::find(vocab.tokens.begin(), vocab.tokens.end(), text) == vocab.tokens.end()) {
        vocab.add(text, testing::kNormal, random.uniform(-12, -3));
      }
    }
    const auto tokenizer = vocab.load();
    for (int i = 0; i < 30; ++i) {
      std::string text;
      for (int64_t n = 1 + random.below(25); n > 0; --n) text.push_back(static_cast<char>('a' + random.below(3)));
      double sum = 0;
      std::string joined;
      for (const Token id : tokenizer->encode(text, false, false)) {
        sum += static_cast<double>(vocab.scores[static_cast<size_t>(id)]);
        joined += vocab.tokens[static_cast<size_t>(id)];
      }
      CHECK(joined == text);
      CHECK(sum == Approx(best_score(vocab, text)).epsilon(1e-12));
    }
  }
}

TEST_CASE("neighbouring unknown characters are one unknown token", "[text]") {
  TestVocab vocab = unigram_vocab();
  const Token a = vocab.add("a", testing::kNormal, -1);
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("xyza\xFFz", false, false) == std::vector<Token>{2, a, 2});
  CHECK(tokenizer->encode("", false, false).empty());
}

TEST_CASE("blanks are marked, merged and prefixed as the model asks", "[text]") {
  TestVocab vocab = unigram_vocab();
  const Token a = vocab.add("a", testing::kNormal, -1);
  const Token mark = vocab.add(kMark, testing::kNormal, -2);
  CHECK(vocab.load()->encode("a  a", false, false) == std::vector<Token>{a, mark, mark, a});
  vocab.switches["add_space_prefix"] = true;
  vocab.switches["remove_extra_whitespaces"] = true;
  CHECK(vocab.load()->encode(" a  a ", false, false) == std::vector<Token>{mark, a, mark, a});
}

// A map with the one rule "A" -> "a", laid out by hand: the root's children lie at 256 + byte.
std::vector<int32_t> tiny_charsmap() {
  std::vector<uint32_t> units(512, 0);
  units[0] = 256u << 10;                             // root: children at 256 ^ byte
  units[256 ^ 'A'] = (64u << 10) | (1u << 8) | 'A';  // ends a rule; its value at this ^ 64
  units[(256 ^ 'A') ^ 64] = 1u << 31;                // value 0: the first replacement
  std::vector<int32_t> bytes;
  const auto push = [&](uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<int32_t>((value >> shift) & 0xFF));
  };
  push(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t unit : units) push(unit);
  bytes.push_back('a');
  bytes.push_back(0);
  return bytes;
}

TEST_CASE("compiled rules replace text, and damaged ones never read outside", "[text]") {
  TestVocab vocab = unigram_vocab();
  const Token a = vocab.add("a", testing::kNormal, -1);
  vocab.charsmap = tiny_charsmap();
  CHECK(vocab.load()->encode("aA", false, false) == std::vector<Token>{a, a});

  test::Random random(41);
  const std::vector<int32_t> good = tiny_charsmap();
  for (int round = 0; round < 300; ++round) {
    vocab.charsmap = good;
    for (int64_t n = 1 + random.below(4); n > 0; --n) {
      const bool root = random.below(2) == 0;
      const int64_t at = root ? random.below(8) : random.below(static_cast<int64_t>(good.size()));
      vocab.charsmap[static_cast<size_t>(at)] = static_cast<int32_t>(random.below(256));
    }
    if (random.below(4) == 0) vocab.charsmap.resize(static_cast<size_t>(1 + random.below(2060)));
    const auto tokenizer = vocab.try_load();
    if (!tokenizer) continue;
    CHECK((*tokenizer)->encode("AaAbA\xFF", false, false).size() <= 12);
  }
}

TEST_CASE("a unigram vocabulary needs its unknown token", "[text]") {
  TestVocab vocab;
  vocab.model = "t5";
  vocab.add("a");
  const auto tokenizer = vocab.try_load();
  REQUIRE_FALSE(tokenizer);
  CHECK_THAT(tokenizer.error().message, Catch::Contains("unknown_token_id"));
}

TestVocab word_piece_vocab() {
  TestVocab vocab;
  vocab.model = "bert";
  vocab.pre = "";
  vocab.add("[UNK]", testing::kUnknown);
  vocab.add("[CLS]", testing::kControl);
  vocab.add("[SEP]", testing::kControl);
  vocab.ids = {{"unknown_token_id", 0}, {"bos_token_id", 1}, {"seperator_token_id", 2}, {"padding_token_id", 0}};
  return vocab;
}

TEST_CASE("WordPiece cuts words greedily, without case and accents", "[text]") {
  TestVocab vocab = word_piece_vocab();
  const Token un = vocab.add(std::string(kMark) + "un");
  const Token do_ = vocab.add("do");
  const Token doing = vocab.add("doing");
  const Token dot = vocab.add(std::string(kMark) + ".");
  const Token zhong = vocab.add(std::string(kMark) + "\xE4\xB8\xAD");
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("\xC3\x9Cndoing. undo\t", true, false) == std::vector<Token>{1, un, doing, dot, un, do_, 2});
  CHECK(tokenizer->encode("\xE4\xB8\xAD\xE4\xB8\xAD", false, false) == std::vector<Token>{zhong, zhong});
  CHECK(tokenizer->encode("undoubt un", false, false) == std::vector<Token>{0, un});
  CHECK(tokenizer->encode(std::string("u\0n\xFF", 4), false, false) == std::vector<Token>{un});
  vocab.switches = {{"normalizer.lowercase", false}};
  CHECK(vocab.load()->encode("UN", false, false) == std::vector<Token>{0});
}

TEST_CASE("a word of a megabyte costs WordPiece linear time", "[text]") {
  TestVocab vocab = word_piece_vocab();
  vocab.add(std::string(kMark) + "a");
  const Token a = vocab.add("a");
  const Token aa = vocab.add("aa");
  const auto ids = vocab.load()->encode(std::string(1'000'001, 'a'), false, false);
  REQUIRE(ids.size() == 500'001);
  CHECK(ids[1] == aa);
  CHECK(a != aa);
}

}  // namespace
}  // namespace lcrun::text
