// Generation: reproducible, and every stop rule stops.
#include "src/runtime/generate.hpp"

#include <catch2/catch.hpp>
#include <limits>

#include "src/base/format.hpp"
#include "src/runtime/engine.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

struct Tiny {
  std::shared_ptr<const model::Model> model = load_tiny("llama");
  std::shared_ptr<const text::Tokenizer> tokenizer;

  Tiny() {
    auto loaded = text::Tokenizer::load(model->file());
    REQUIRE(loaded.has_value());
    tokenizer = std::move(loaded).value();
  }

  Generated run(const GenerateOptions& options, const TextSink& sink = {}, int64_t n_ctx = 256) const {
    auto session_options = tiny_session_options();
    session_options.n_ctx = n_ctx;
    auto session = open_tiny_session(model, session_options);
    auto made = generate(session, *tokenizer, random_tokens(20, kTinyVocab, 31), options, sink);
    INFO((made.has_value() ? std::string() : made.error().message));
    REQUIRE(made.has_value());
    return std::move(made).value();
  }
};

GenerateOptions seeded(uint64_t seed, int64_t n) {
  GenerateOptions options;
  options.n_predict = n;
  options.ignore_eos = true;
  options.sampling.temp = 1.0F;
  options.sampling.top_k = 0;
  options.sampling.top_p = 1.0F;
  options.sampling.min_p = 0.0F;
  options.sampling.seed = seed;
  return options;
}

}  // namespace

TEST_CASE("a seed repeats itself and another one differs", "[runtime][generate]") {
  const Tiny tiny;
  const auto a = tiny.run(seeded(7, 40));
  const auto b = tiny.run(seeded(7, 40));
  const auto c = tiny.run(seeded(8, 40));
  CHECK(a.tokens == b.tokens);
  CHECK(a.text == b.text);
  CHECK(a.tokens != c.tokens);
  CHECK(a.tokens.size() == 40);
  CHECK(a.stop == StopReason::kLength);
}

TEST_CASE("what is streamed adds up to the text, in whole code points", "[runtime][generate]") {
  const Tiny tiny;
  std::string streamed;
  const auto made = tiny.run(seeded(3, 60), [&](std::string_view piece) -> Status {
    streamed += piece;
    return {};
  });
  CHECK(streamed == made.text);
}

TEST_CASE("the answer prefix begins the text", "[runtime][generate]") {
  const Tiny tiny;
  auto options = seeded(3, 5);
  options.answer_prefix = "It is ";
  CHECK(tiny.run(options).text.rfind("It is ", 0) == 0);
}

TEST_CASE("nothing is generated for n = 0, and the context ends a reply", "[runtime][generate]") {
  const Tiny tiny;
  CHECK(tiny.run(seeded(1, 0)).tokens.empty());
  const auto full = tiny.run(seeded(1, -1), {}, 30);
  CHECK(full.stop == StopReason::kContext);
  CHECK(full.tokens.size() == 11);  // ten are read back, the last is only said
}

TEST_CASE("an end token ends the reply and is not part of it", "[runtime][generate]") {
  const Tiny tiny;
  auto options = seeded(1, 200);
  options.ignore_eos = false;
  options.sampling.temp = 3.0F;
  for (uint64_t seed = 1; seed < 40; ++seed) {
    options.sampling.seed = seed;
    const auto made = tiny.run(options);
    for (const Token token : made.tokens) CHECK_FALSE(tiny.tokenizer->is_end_of_generation(token));
    if (made.stop == StopReason::kEnd) return;
  }
  FAIL("no seed reached an end token");
}

TEST_CASE("an error of the sink ends generation with that error", "[runtime][generate]") {
  const Tiny tiny;
  auto session = open_tiny_session(tiny.model);
  const auto made = generate(session, *tiny.tokenizer, random_tokens(5, kTinyVocab, 1), seeded(1, 50),
                             [](std::string_view) { return make_error(Code::kNoSpace, "full"); });
  REQUIRE_FALSE(made.has_value());
  CHECK(made.error().code == Code::kNoSpace);
}

TEST_CASE("a stop that is asked for ends the reply with what there is", "[runtime][generate]") {
  const Tiny tiny;
  std::atomic<bool> cancel{false};
  auto session_options = tiny_session_options();
  session_options.cancel = &cancel;
  auto session = open_tiny_session(tiny.model, session_options);
  int pieces = 0;
  const auto made = generate(session, *tiny.tokenizer, random_tokens(5, kTinyVocab, 1), seeded(1, 50),
                             [&](std::string_view) -> Status {
                               cancel = ++pieces == 5;
                               return {};
                             });
  REQUIRE(made.has_value());
  CHECK(made->stop == StopReason::kInterrupted);
  CHECK(made->tokens.size() < 50);
}

TEST_CASE("what a grammar allows is all that is said", "[runtime][generate]") {
  const Tiny tiny;
  const auto grammar = text::Grammar::parse_gbnf("root ::= \"the \" [a-c]+ \".\"");
  REQUIRE(grammar.has_value());
  const auto pieces = vocabulary_pieces(*tiny.tokenizer);
  for (uint64_t seed = 1; seed < 6; ++seed) {
    auto options = seeded(seed, 200);
    options.ignore_eos = false;
    options.grammar = *grammar;
    options.pieces = pieces;
    const auto made = tiny.run(options);
    INFO(made.text);
    CHECK(made.stop == StopReason::kEnd);
    CHECK(made.text.rfind("the ", 0) == 0);
    CHECK(made.text.find_first_not_of("abc", 4) == made.text.size() - 1);
    CHECK(made.text.back() == '.');
  }
}
