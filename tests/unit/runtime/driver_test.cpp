// Drivers over tiny models: what they lay out comes from the text, is bounded, and depends on nothing but the text.
#include "src/runtime/driver.hpp"

#include <catch2/catch.hpp>

#include "src/runtime/eval_prose.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

struct Rig {
  std::shared_ptr<const model::Model> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::optional<PromptLayout> layout;
  int threads = 1;
  int64_t batch = 64;
  int64_t most_context = 0;  // of all sessions that were opened

  explicit Rig(const std::string& arch = "llama") : model(load_tiny(arch)) {
    auto loaded = text::Tokenizer::load(model->file());
    REQUIRE(loaded.has_value());
    tokenizer = std::move(loaded).value();
    auto made = PromptLayout::create(tokenizer, true, "");
    REQUIRE(made.has_value());
    layout = std::move(made).value();
  }

  Result<DriverReading> read(std::string_view driver, const std::string& text, const DriverSettings& settings,
                             DriverState& state) {
    const text::Span span{text, false};
    const auto tokens = tokenizer->encode_continuation({&span, 1});
    TokenPassages source(*tokenizer, tokens);
    const auto question = layout->question_part("Who sold the lantern?", "", "It was sold by");
    REQUIRE(question.has_value());
    const auto open = [&](int64_t n_ctx) {
      most_context = std::max(most_context, n_ctx);
      SessionOptions options = tiny_session_options();
      options.n_ctx = n_ctx;
      options.batch = batch;
      options.n_threads = options.n_threads_batch = threads;
      return Session::open(model, options);
    };
    return find_driver(driver)->read(
        {*tokenizer, *layout, settings, open, source, "Who sold the lantern?", *question, true}, state);
  }
  DriverReading read(std::string_view driver, const std::string& text, const DriverSettings& settings = small()) {
    DriverState state;
    auto made = read(driver, text, settings, state);
    INFO((made.has_value() ? "" : made.error().message));
    REQUIRE(made.has_value());
    REQUIRE(state.session.has_value());
    CHECK(state.session->max_tokens() >= static_cast<int64_t>(made->prompt.size()));
    return std::move(made).value();
  }
  static DriverSettings small() {
    DriverSettings settings;
    settings.window = 256;
    settings.keep = 200;
    settings.n_predict = 8;
    return settings;
  }
  std::string bytes(std::span<const Token> tokens) const {
    std::string all;
    for (const Token token : tokens) all += tokenizer->piece(token, true);
    return all;
  }
};

// What a reading has kept lies in the text where it says, in order. Notes have its places alone.
void check_places(const Rig& rig, const DriverReading& reading, const std::string& text, bool are_notes = false) {
  uint64_t end = 0;
  for (const PromptPassage& one : reading.passages) {
    CHECK(one.place.first_byte >= end);
    end = one.place.end_byte;
    CHECK(one.place.last_line >= one.place.first_line);
    if (are_notes) continue;
    const auto tokens = std::span(reading.prompt).subspan(size_t(one.begin), size_t(one.end - one.begin));
    CHECK(rig.bytes(tokens) == text.substr(one.place.first_byte, one.place.end_byte - one.place.first_byte));
  }
}

}  // namespace

TEST_CASE("a driver's prompt is made of whole passages of the text, and ends with the question", "[runtime][driver]") {
  const std::string text = generated_prose(5, 6000);
  for (const std::string arch : {"llama", "gemma2"}) {
    Rig rig(arch);
    const auto question = rig.layout->question_part("Who sold the lantern?", "", "It was sold by");
    for (const Driver& driver : drivers()) {
      CAPTURE(arch, driver.name);
      const DriverReading reading = rig.read(driver.name, text);
      check_places(rig, reading, text, driver.name == "fold");
      CHECK(std::vector<Token>(reading.prompt.begin() + reading.text_end, reading.prompt.end()) == *question);
      CHECK(reading.text_tokens > 1000);
      if (driver.name == "jrt") {
        CHECK(reading.kept_tokens == reading.text_tokens);
        CHECK(reading.passages.back().place.end_byte == text.size());
        CHECK(static_cast<int64_t>(reading.prompt.size()) > 2 * reading.text_tokens);
      } else {
        CHECK(reading.kept_tokens > 0);
        CHECK(reading.kept_tokens <= 200 + PassageSplitter::kMostTokens);
      }
    }
  }
}

TEST_CASE("what a driver keeps depends on neither threads nor batches", "[runtime][driver]") {
  const std::string text = generated_prose(6, 4000);
  for (const Driver& driver : drivers()) {
    CAPTURE(driver.name);
    Rig rig;
    const auto want = rig.read(driver.name, text).prompt;
    rig.threads = 3;
    rig.batch = 37;
    CHECK(rig.read(driver.name, text).prompt == want);
  }
}

TEST_CASE("drivers that keep little need no more memory for a longer text", "[runtime][driver]") {
  for (const char* driver : {"retri", "rag"}) {
    Rig rig;
    rig.read(driver, generated_prose(7, 1000));
    const int64_t needed = rig.most_context;
    rig.read(driver, generated_prose(7, 9000));
    CHECK(rig.most_context == needed);
  }
}

TEST_CASE("notes of a folded text stand for all of it, and need little more room for a longer one",
          "[runtime][driver]") {
  Rig rig;
  for (const size_t bytes : {3000, 30000}) {
    const std::string text = generated_prose(9, bytes);
    const DriverReading reading = rig.read("fold", text);
    CHECK(reading.passages.front().place.first_byte == 0);
    CHECK(reading.passages.back().place.end_byte == text.size());
    for (size_t i = 1; i < reading.passages.size(); ++i) {
      CHECK(reading.passages[i].place.first_byte == reading.passages[i - 1].place.end_byte);
    }
    CHECK(reading.kept_tokens <= 200);
  }
  const int64_t needed = rig.most_context;
  rig.read("fold", generated_prose(9, 1000));
  CHECK(rig.most_context == needed);
}

TEST_CASE("memories of earlier runs change nothing but the time", "[runtime][driver]") {
  Rig rig;
  DriverState state;
  state.remembers = true;
  std::string text = generated_prose(8, 5000);
  const std::string other = text.substr(0, 3000) + "The lantern was sold by Anselm.\n" + text.substr(3000);
  const auto settings = Rig::small();
  for (const std::string& one : {text, other, text}) {
    const auto made = rig.read("retri", one, settings, state);
    REQUIRE(made.has_value());
    CHECK(made->prompt == rig.read("retri", one).prompt);
  }
  CHECK_FALSE(state.memory.empty());
}

TEST_CASE("a short text is kept as it is, and an empty one leaves the question", "[runtime][driver]") {
  Rig rig;
  const std::string text = "The ferryman sold the lantern.\n";
  for (const Driver& driver : drivers()) {
    CAPTURE(driver.name);
    const auto reading = rig.read(driver.name, text);
    REQUIRE(reading.passages.size() == 1);
    check_places(rig, reading, text);
    CHECK(rig.read(driver.name, "").passages.empty());
  }
  CHECK(find_driver("none") == nullptr);
  CHECK(find_driver("retri")->name == "retri");
}
