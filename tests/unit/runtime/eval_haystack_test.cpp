// Haystacks: exact lengths, places at the depth asked for, everything repeatable.
#include "src/runtime/eval_haystack.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "src/runtime/eval_prose.hpp"
#include "tests/support/tiny_model.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;
using Join = Haystack::Join;

namespace {

constexpr uint64_t kProseHash = 16210980426185479343ULL;  // of the first 20,000 bytes of seed 1611

std::shared_ptr<const text::Tokenizer> tiny_tokenizer() {
  static const auto tokenizer = [] {
    auto loaded = text::Tokenizer::load(*open_tiny(tiny_recipe({})));
    REQUIRE(loaded.has_value());
    return std::shared_ptr<const text::Tokenizer>(std::move(loaded).value());
  }();
  return tokenizer;
}

Haystack haystack_of(const std::string& text, int64_t n) {
  auto made = Haystack::create(*tiny_tokenizer(), text, "text", n);
  INFO((made.has_value() ? std::string() : made.error().message));
  REQUIRE(made.has_value());
  return std::move(made).value();
}

uint64_t fnv(const std::string& text) {
  uint64_t hash = 1469598103934665603ULL;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211ULL;
  return hash;
}

}  // namespace

TEST_CASE("prose is the same for ever, without digits, and longer prose begins with shorter", "[runtime][eval]") {
  const std::string text = generated_prose(1611, 20000);
  CHECK(text.size() >= 20000);
  CHECK(text.size() < 21500);
  CHECK(text.back() == '\n');
  CHECK(fnv(text.substr(0, 20000)) == kProseHash);
  CHECK(text.find_first_of("0123456789") == std::string::npos);
  CHECK(text.find("pass key") == std::string::npos);
  CHECK(text.find("  ") == std::string::npos);
  const std::string longer = generated_prose(1611, 60000);
  CHECK(longer.compare(0, text.size(), text) == 0);
  CHECK(generated_prose(1612, 20000) != text);
}

TEST_CASE("a haystack is the first tokens of its text, however much text there is", "[runtime][eval]") {
  const std::string text = generated_prose(5, 50000);
  const text::Span span{text, false};
  const auto all = tiny_tokenizer()->encode_continuation({&span, 1});
  for (const int64_t n : {1, 64, 1000, 5000}) {
    const Haystack haystack = haystack_of(text, n);
    REQUIRE(haystack.size() == n);
    CHECK(std::equal(haystack.tokens().begin(), haystack.tokens().end(), all.begin()));
  }
  const Haystack whole = haystack_of(text, static_cast<int64_t>(all.size()));
  CHECK(whole.size() == static_cast<int64_t>(all.size()));
  const auto more = Haystack::create(*tiny_tokenizer(), text, "text", static_cast<int64_t>(all.size()) + 1);
  REQUIRE_FALSE(more.has_value());
  CHECK(more.error().code == Code::kInvalidArgument);
  CHECK(more.error().message.find(std::to_string(all.size())) != std::string::npos);
}

TEST_CASE("a text without blanks or lines is a haystack, too", "[runtime][eval]") {
  const Haystack haystack = haystack_of(std::string(5000, 'x'), 700);
  CHECK(haystack.size() == 700);
  CHECK(haystack.join(0) == Join::kLine);
  CHECK(haystack.join(300) == Join::kNone);
}

TEST_CASE("sentences join at ends of lines and of sentences only", "[runtime][eval]") {
  const std::string text = "One two. Three\nFour e.g.x five! Six";
  const text::Span span{text, false};
  const auto tokens = tiny_tokenizer()->encode_continuation({&span, 1});
  const Haystack haystack = haystack_of(text, static_cast<int64_t>(tokens.size()));
  std::string before;
  for (int64_t at = 0; at <= haystack.size(); ++at) {
    const bool line = at == 0 || before.back() == '\n';
    const bool blank = before == "One two." || before == "One two. Three\nFour e.g.x five!";
    INFO("after \"" << before << "\"");
    CHECK(haystack.join(at) == (line ? Join::kLine : blank ? Join::kBlank : Join::kNone));
    if (at < haystack.size()) before += tiny_tokenizer()->piece(haystack.tokens()[static_cast<size_t>(at)], false);
  }
  CHECK(before == text);
}

TEST_CASE("the first sentence lies at its depth, none overlap, and all fit", "[runtime][eval]") {
  const Haystack haystack = haystack_of(generated_prose(2, 60000), 8000);
  std::vector<HiddenSentence> sentences;
  for (int i = 0; i < 5; ++i) sentences.emplace_back(*tiny_tokenizer(), "The key of door " + std::to_string(i) + ".");
  for (const int64_t n : {600, 4000, 8000}) {
    for (const double depth : {0.0, 0.1, 0.5, 0.9, 1.0}) {
      EvalRandom random(static_cast<uint64_t>(n) + static_cast<uint64_t>(depth * 100));
      const auto places = place_sentences(haystack, n, sentences, depth, random);
      INFO(n << " tokens, depth " << depth);
      REQUIRE(places.has_value());
      REQUIRE(places->size() == sentences.size());
      const auto size = static_cast<double>(places->front().tokens.size());
      const double room = static_cast<double>(n) - size;
      // Moved by chance, then to the end of a sentence.
      CHECK(std::abs(static_cast<double>(places->front().at) - depth * room) <= 0.015 * static_cast<double>(n) + 120);
      for (size_t i = 0; i < places->size(); ++i) {
        const Replacement& one = (*places)[i];
        CHECK(one.at >= 0);
        CHECK(one.end() <= n);
        CHECK(one.tokens == sentences[i].joined(haystack.join(one.at)));
        for (size_t j = 0; j < i; ++j) CHECK((one.end() <= (*places)[j].at || (*places)[j].end() <= one.at));
      }
      if (n >= 4000) CHECK(haystack.join(places->front().at) != Join::kNone);
    }
  }
}

TEST_CASE("places are repeatable, differ by seed, and too little text is refused", "[runtime][eval]") {
  const Haystack haystack = haystack_of(generated_prose(2, 60000), 8000);
  const std::vector<HiddenSentence> one = {{*tiny_tokenizer(), "The key is 12345."}};
  const auto at = [&](uint64_t seed) {
    EvalRandom random(seed);
    const auto places = place_sentences(haystack, 8000, one, 0.5, random);
    REQUIRE(places.has_value());
    return places->front().at;
  };
  CHECK(at(1) == at(1));
  std::set<int64_t> different;
  for (uint64_t seed = 1; seed <= 10; ++seed) different.insert(at(seed));
  CHECK(different.size() >= 3);  // of a stretch of three sentences
  EvalRandom random(1);
  const std::vector<HiddenSentence> many(60, one.front());
  for (const int64_t n : {-5, 0, 10, 400}) {
    const auto places = place_sentences(haystack, n, many, 0.5, random);
    REQUIRE_FALSE(places.has_value());
    CHECK(places.error().code == Code::kInvalidArgument);
  }
}
