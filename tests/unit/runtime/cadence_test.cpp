// Questions that choose at a cadence: whoever leads a group, what follows reads by its choice, on whatever way the
// timeline came to be.
#include <catch2/catch.hpp>

#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr int64_t kText = 1903;  // tokens that are read before the question; no border of any group
constexpr int64_t kEnd = kText + 21;
constexpr int64_t kDecoded = 40;

std::vector<Token> some_tokens(uint64_t seed = 3) { return random_tokens(kEnd + kDecoded, kTinyVocab, seed); }

SessionOptions options_of(int64_t cadence, attention::Scope scope = attention::Scope::kLayer) {
  SessionOptions options = tiny_session_options();
  options.n_ctx = 4096;
  auto rows = std::make_shared<attention::PolicyRows>();
  for (const auto& policy : attention::policies()) {
    if (policy.name == "select") rows->rows.push_back(policy);
  }
  rows->rows[0].name = "mine";
  rows->rows[0].ask.scope = scope;
  options.policy = {"mine", "auto", 256};
  options.policy.cadence = cadence;
  options.policy.rows = rows;
  return options;
}

std::vector<float> ask(Session& session, std::span<const Token> tokens, int64_t ask_from = kText) {
  const auto logits = session.sync(tokens, {}, ask_from);
  REQUIRE(logits.has_value());
  return {logits->begin(), logits->end()};
}

using Answers = std::vector<std::vector<float>>;

Answers decode_from(Session& session, const std::vector<Token>& tokens, size_t first) {
  Answers all;
  for (size_t i = first; i < tokens.size(); ++i) all.push_back(decode_copy(session, tokens[i]));
  return all;
}

// Text and question at once, then a token at a time.
Answers answer(Session& session, const std::vector<Token>& tokens) {
  Answers all{ask(session, {tokens.data(), kEnd})};
  for (auto& logits : decode_from(session, tokens, kEnd)) all.push_back(std::move(logits));
  return all;
}

PagingOptions losing_pages() {
  PagingOptions paging;
  paging.open_device = []() -> Result<std::unique_ptr<storage::BlockDevice>> {
    storage::SimConfig config;
    config.capacity = uint64_t{64} << 20;
    storage::FaultPlan faults;
    faults.seed = 5;
    faults.per_thousand[static_cast<size_t>(storage::Fault::kFlipOnWrite)] = 200;
    return std::unique_ptr<storage::BlockDevice>(
        std::make_unique<storage::FaultDevice>(std::make_unique<storage::SimDevice>(config), faults));
  };
  return paging;
}

}  // namespace

TEST_CASE("a cadence of one is none, and a longer one scans less and reads otherwise", "[runtime][policy][cadence]") {
  const auto tokens = some_tokens();
  const auto model = load_tiny("llama");
  auto options = options_of(0);
  auto plain = open_tiny_session(model, options);
  const auto want = answer(plain, tokens);
  int64_t scanned = plain.attention_stats().scanned_bytes;
  auto one = open_tiny_session(model, options_of(1));
  CHECK(answer(one, tokens) == want);
  for (const int64_t cadence : {4, 16, 64}) {
    CAPTURE(cadence);
    auto session = open_tiny_session(model, options_of(cadence));
    CHECK(answer(session, tokens) != want);
    CHECK(session.attention_stats().queries >= plain.attention_stats().queries);
    CHECK(session.attention_stats().scanned_bytes < scanned);
    scanned = session.attention_stats().scanned_bytes;
  }
}

TEST_CASE("a group reads what its first query has chosen", "[runtime][policy][cadence]") {
  // The leader sees the same with and without a cadence; so do those behind it that would have chosen alike: with a
  // budget of all blocks nobody chooses, and the answers are those of dense attention.
  const auto tokens = some_tokens();
  const auto model = load_tiny("llama");
  auto leading = options_of(8), alone = options_of(1);
  auto led = open_tiny_session(model, leading), free = open_tiny_session(model, alone);
  const auto a = answer(led, tokens), b = answer(free, tokens);
  CHECK(a[0] != b[0]);
  leading.policy.budget = alone.policy.budget = 4096;
  leading.policy.prefill = alone.policy.prefill = "dense";
  auto all_led = open_tiny_session(model, leading), all_free = open_tiny_session(model, alone);
  alone.policy.attention = "dense";
  auto dense = open_tiny_session(model, alone);
  const auto want = answer(dense, tokens);
  CHECK(answer(all_led, tokens) == want);
  CHECK(answer(all_free, tokens) == want);
}

TEST_CASE("groups give the same bits however the question is split, edited, forked, restored or lost",
          "[runtime][policy][cadence]") {
  const auto tokens = some_tokens();
  auto edited = tokens;
  edited[kText + 14] = (edited[kText + 14] + 1) % kTinyVocab;
  const test::TempDir dir;
  const std::string path = dir.path() + "/s";
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    const auto model = load_tiny(arch);
    for (const auto scope : {attention::Scope::kLayer, attention::Scope::kHead}) {
      CAPTURE(arch, scope == attention::Scope::kHead);
      auto options = options_of(8, scope);
      auto whole = open_tiny_session(model, options);
      const auto want = answer(whole, tokens);
      whole.clear();
      const auto after_edit = answer(whole, edited);
      CHECK(after_edit != want);
      // An edit in the middle of a group, back and forth; the answer once more from its middle.
      CHECK(answer(whole, tokens) == want);
      CHECK(answer(whole, edited) == after_edit);
      CHECK(ask(whole, {tokens.data(), kEnd}) == want[0]);
      for (const int64_t again : {3, 11, 12}) {
        CHECK(ask(whole, {tokens.data(), static_cast<size_t>(kEnd + again)}) == want[static_cast<size_t>(again)]);
      }
      CHECK(decode_from(whole, tokens, kEnd + 12) == Answers(want.begin() + 13, want.end()));
      // Small batches, several threads, a question in pieces.
      options.batch = 5;
      options.n_threads = options.n_threads_batch = 3;
      auto split = open_tiny_session(model, options);
      REQUIRE(split.sync({tokens.data(), 999}, {}, INT64_MAX).has_value());
      ask(split, {tokens.data(), kText + 3});
      ask(split, {tokens.data(), kText + 13});
      CHECK(answer(split, tokens) == want);
      // Saved in the middle of a group.
      auto saver = open_tiny_session(model, options);
      ask(saver, {tokens.data(), kEnd});
      for (size_t i = 0; i < 6; ++i) CHECK(decode_copy(saver, tokens[kEnd + i]) == want[i + 1]);
      REQUIRE(saver.save(posix_file_system(), path).has_value());
      auto restored = open_tiny_session(model, options);
      REQUIRE(restored.load(posix_file_system(), path).has_value());
      CHECK(decode_from(restored, tokens, kEnd + 6) == Answers(want.begin() + 7, want.end()));
      CHECK(decode_from(saver, tokens, kEnd + 6) == Answers(want.begin() + 7, want.end()));
    }
  }
}

TEST_CASE("groups are read again as they were when a disk loses pages", "[runtime][policy][cadence][paging]") {
  const auto tokens = some_tokens();
  const auto model = load_tiny("llama");
  auto options = options_of(16);
  auto memory = open_tiny_session(model, options);
  const auto want = answer(memory, tokens);
  options.paging = losing_pages();
  options.n_ctx = 1 << 18;
  std::optional<Session> paged;
  for (options.max_state_bytes = 65536; !paged.has_value(); options.max_state_bytes += 16384) {
    auto made = Session::open(model, options);
    if (made.has_value()) paged.emplace(std::move(made).value());
  }
  REQUIRE(paged->page_store() != nullptr);
  CHECK(answer(*paged, tokens) == want);
  CHECK(paged->recomputed_tokens() > 0);
}

TEST_CASE("layers that take over choices, and rows past the end of the context, follow leaders too",
          "[runtime][policy][cadence]") {
  const auto tokens = some_tokens();
  const auto model = load_tiny("llama");
  REQUIRE(model->config().n_layers >= 3);
  const auto with = [&](int64_t n_ctx, int64_t batch) {
    auto options = options_of(8);
    auto rows = std::make_shared<attention::PolicyRows>(*options.policy.rows);
    rows->rows[0].layers.plan_from = {{"1-2", 0}};
    options.policy.rows = rows;
    options.n_ctx = n_ctx;
    options.batch = batch;
    return open_tiny_session(model, options);
  };
  auto whole = with(4096, 512), split = with(4096, 7);
  const auto want = answer(whole, tokens);
  CHECK(answer(split, tokens) == want);
  auto apart = open_tiny_session(model, options_of(8));
  CHECK(answer(apart, tokens) != want);

  const auto slide = [&](Session& session) {
    Answers all{ask(session, {tokens.data(), kEnd})};
    for (size_t i = kEnd; i < tokens.size(); ++i) {
      const auto logits = session.decode(tokens[i], Session::AtEnd::kSlide);
      REQUIRE(logits.has_value());
      all.emplace_back(logits->begin(), logits->end());
    }
    CHECK(session.is_past_end());
    return all;
  };
  auto end_whole = with(kEnd + 5, 512), end_split = with(kEnd + 5, 3);
  const auto past = slide(end_whole);
  CHECK(slide(end_split) == past);
  CHECK(std::equal(past.begin(), past.begin() + 5, want.begin()));
}

TEST_CASE("a cadence that does not divide a block is refused", "[runtime][policy][cadence]") {
  const auto model = load_tiny("llama");
  for (const int64_t cadence : {-1, 3, 65, 128}) {
    const auto session = Session::open(model, options_of(cadence));
    CAPTURE(cadence);
    REQUIRE_FALSE(session.has_value());
    CHECK(session.error().code == Code::kInvalidArgument);
  }
}
