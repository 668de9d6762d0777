// Laws of a session: splits, threads, prefixes and interruptions do not change what a model says.
#include "src/runtime/session.hpp"

#include <catch2/catch.hpp>

#include "tests/support/alloc_counter.hpp"
#include "tests/support/own_rows.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

// One architecture for each kind of state: blocks that grow, rings, a fixed state.
const std::vector<std::string> kArchs = {"llama", "gemma3", "mamba2"};

std::vector<Token> first(const std::vector<Token>& tokens, size_t n) {
  return {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n)};
}

}  // namespace

TEST_CASE("any batch size gives the bits of one token at a time", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(150, kTinyVocab, 3);
    auto options = tiny_session_options();
    options.batch = 1;
    auto slow = open_tiny_session(model, options);
    const auto wanted = sync_copy(slow, tokens);
    for (const int64_t batch : {7, 64, 512}) {
      options.batch = batch;
      auto session = open_tiny_session(model, options);
      CHECK(sync_copy(session, tokens) == wanted);
    }
  }
}

TEST_CASE("one thread and four give the same bits", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(100, kTinyVocab, 4);
    auto options = tiny_session_options();
    auto one = open_tiny_session(model, options);
    options.n_threads = 4;
    options.n_threads_batch = 4;
    auto four = open_tiny_session(model, options);
    CHECK(sync_copy(one, tokens) == sync_copy(four, tokens));
    CHECK(decode_copy(one, 5) == decode_copy(four, 5));
  }
}

TEST_CASE("a prompt that begins like the last one is read from where they part", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    auto session = open_tiny_session(model);
    const auto tokens = random_tokens(120, kTinyVocab, 5);
    sync_copy(session, first(tokens, 80));
    const auto longer = sync_copy(session, tokens);
    CHECK(session.reused_tokens() == 80);
    auto fresh = open_tiny_session(model);
    CHECK(longer == sync_copy(fresh, tokens));
    // The same prompt again costs nothing, and gives the same.
    CHECK(sync_copy(session, tokens) == longer);
    CHECK(session.reused_tokens() == 120);
  }
}

TEST_CASE("a prompt that goes another way gives what a fresh session gives", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    auto session = open_tiny_session(model);
    const auto tokens = random_tokens(200, kTinyVocab, 6);
    sync_copy(session, tokens);
    for (const size_t keep : {size_t{150}, size_t{70}, size_t{1}}) {
      auto other = first(tokens, keep);
      const auto tail = random_tokens(40, kTinyVocab, keep);
      other.insert(other.end(), tail.begin(), tail.end());
      auto fresh = open_tiny_session(model);
      CHECK(sync_copy(session, other) == sync_copy(fresh, other));
      CHECK(session.tokens().size() == other.size());
    }
    // A shorter prompt needs the logits of its own last token.
    auto fresh = open_tiny_session(model);
    CHECK(sync_copy(session, first(tokens, 60)) == sync_copy(fresh, first(tokens, 60)));
  }
}

TEST_CASE("decoding token by token equals reading them", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(90, kTinyVocab, 7);
    auto whole = open_tiny_session(model);
    const auto wanted = sync_copy(whole, tokens);
    auto session = open_tiny_session(model);
    sync_copy(session, first(tokens, 60));
    std::vector<float> last;
    for (size_t i = 60; i < tokens.size(); ++i) last = decode_copy(session, tokens[i]);
    CHECK(last == wanted);
  }
}

TEST_CASE("scoring hands out the logits that reading would give, whatever the batch", "[runtime][session]") {
  const auto model = load_tiny("gemma3");
  const auto tokens = random_tokens(70, kTinyVocab, 8);
  auto session = open_tiny_session(model);
  std::vector<int64_t> positions;
  const auto sink = [&](int64_t pos, std::span<const float> logits) -> Status {
    positions.push_back(pos);
    auto fresh = open_tiny_session(model);
    const auto wanted = sync_copy(fresh, first(tokens, static_cast<size_t>(pos) + 1));
    CHECK(std::equal(logits.begin(), logits.end(), wanted.begin()));
    return {};
  };
  REQUIRE(session.score(tokens, 20, sink).has_value());
  REQUIRE(positions.size() == 20);
  CHECK(positions.front() == 50);
  CHECK(positions.back() == 69);
}

TEST_CASE("decode steps after the first allocate nothing", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    auto session = open_tiny_session(load_tiny(arch));
    sync_copy(session, random_tokens(10, kTinyVocab, 9));
    REQUIRE(session.decode(1).has_value());
    const int64_t before = allocation_count();
    bool all_well = true;
    for (Token token = 0; token < 200; ++token) all_well = session.decode(token).has_value() && all_well;
    const int64_t after = allocation_count();
    CHECK(all_well);
    CHECK(after == before);
  }
}

TEST_CASE("decoding with means of blocks allocates nothing within a block", "[runtime][session]") {
  for (const char* policy : {"select", "select-blocks", "select-mean", "shared-blocks"}) {
    CAPTURE(policy);
    auto options = tiny_session_options();
    options.n_ctx = 2048;
    options.policy = {policy, "auto", 128};
    options.policy.rows = own_rows();
    auto session = open_tiny_session(load_tiny("llama"), options);
    sync_copy(session, random_tokens(1665, kTinyVocab, 9));
    REQUIRE(session.decode(1).has_value());
    const int64_t before = allocation_count();
    bool all_well = true;
    for (Token token = 0; token < 60; ++token) all_well = session.decode(token).has_value() && all_well;
    const int64_t after = allocation_count();
    CHECK(all_well);
    CHECK(after == before);
  }
}

TEST_CASE("a long context takes memory as it fills, not before", "[runtime][session]") {
  auto options = tiny_session_options();
  options.n_ctx = int64_t{1} << 40;
  auto session = open_tiny_session(load_tiny("llama"), options);
  CHECK(session.state_bytes() == 0);
  sync_copy(session, random_tokens(10, kTinyVocab, 9));
  CHECK(session.state_bytes() == session.model().state_bytes(options.cache, 10));
}

TEST_CASE("too much for the context or the cap is refused, and the session goes on", "[runtime][session]") {
  const auto model = load_tiny("llama");
  auto options = tiny_session_options();
  options.n_ctx = 100;
  auto session = open_tiny_session(model, options);
  const auto tokens = random_tokens(101, kTinyVocab, 10);
  CHECK(session.sync(tokens).error().code == Code::kInvalidArgument);
  sync_copy(session, first(tokens, 100));
  CHECK(session.decode(1).error().code == Code::kInvalidArgument);
  CHECK(session.tokens().size() == 100);

  options.n_ctx = 4096;
  options.max_state_bytes = model->state_bytes(options.cache, 64);
  auto capped = open_tiny_session(model, options);
  CHECK(capped.max_tokens() == 64);
  const auto refused = capped.sync(first(tokens, 65));
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::kNoMemory);
  CHECK(refused.error().message.find("64 tokens would fit") != std::string::npos);
  CHECK(capped.sync(first(tokens, 64)).has_value());
}

TEST_CASE("empty prompts and ids outside the vocabulary are invalid arguments", "[runtime][session]") {
  auto session = open_tiny_session(load_tiny("llama"));
  CHECK(session.sync({}).error().code == Code::kInvalidArgument);
  for (const Token bad : {Token{-1}, Token{kTinyVocab}}) {
    CHECK(session.decode(bad).error().code == Code::kInvalidArgument);
  }
  CHECK(session.tokens().empty());
}

TEST_CASE("an interrupted prompt leaves a session that still tells the truth", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(100, kTinyVocab, 11);
    auto fresh = open_tiny_session(model);
    const auto wanted = sync_copy(fresh, tokens);

    std::atomic<bool> cancel{false};
    auto options = tiny_session_options();
    options.cancel = &cancel;
    auto session = open_tiny_session(model, options);
    // Between batches, by the callback.
    const auto stopped = session.sync(tokens, [](int64_t done, int64_t) { return done < 64; });
    REQUIRE_FALSE(stopped.has_value());
    CHECK(stopped.error().code == Code::kCancelled);
    CHECK(session.tokens().size() == 64);
    // Inside a batch, by the flag.
    const auto flagged = session.sync(tokens, [&](int64_t done, int64_t) { return cancel = done >= 96, true; });
    REQUIRE_FALSE(flagged.has_value());
    CHECK(flagged.error().code == Code::kCancelled);
    cancel = false;
    CHECK(sync_copy(session, tokens) == wanted);
  }
}

TEST_CASE("a mark is a place to go back to", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto tokens = random_tokens(200, kTinyVocab, 12);
    auto session = open_tiny_session(model);
    sync_copy(session, first(tokens, 50));
    const auto mark = session.mark();
    REQUIRE(mark.has_value());
    const auto once = sync_copy(session, tokens);
    for (int i = 0; i < 2; ++i) {
      REQUIRE(session.rewind(*mark).has_value());
      CHECK(session.tokens().size() == 50);
      CHECK(sync_copy(session, tokens) == once);
    }
  }
}

TEST_CASE("an edited prompt re-uses what comes before the edit, windows and recurrent states too",
          "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    auto options = tiny_session_options();
    options.n_ctx = 4096;
    const auto tokens = random_tokens(1600, kTinyVocab, 31);
    for (const double part : {0.25, 0.5, 0.9}) {
      auto session = open_tiny_session(model, options);
      sync_copy(session, tokens);
      auto edited = tokens;
      const auto edit = static_cast<size_t>(part * 1600.0);
      edited[edit] = (edited[edit] + 1) % static_cast<Token>(kTinyVocab);
      const auto found = sync_copy(session, edited);
      CHECK(session.reused_tokens() <= static_cast<int64_t>(edit));
      CHECK(session.reused_tokens() > static_cast<int64_t>(edit) - 512);
      auto fresh = open_tiny_session(model, options);
      CHECK(found == sync_copy(fresh, edited));
    }
  }
}

TEST_CASE("what a change does not reach is taken from the unchanged text, bit for bit", "[runtime][session]") {
  const auto model = load_tiny("gemma3");  // of its four layers, each has a window of eight tokens
  auto session = open_tiny_session(model);
  const auto text = random_tokens(400, kTinyVocab, 8);
  REQUIRE(session.affected_until(100, 120) == 120 + 4 * 7);
  REQUIRE(session.affected_until(100, 100) == 100);
  sync_copy(session, first(text, 100));
  const auto early = session.fork();
  REQUIRE(early.has_value());
  sync_copy(session, text);
  const auto late = session.fork();
  REQUIRE(late.has_value());
  for (const uint64_t seed : {1, 2}) {
    auto changed = text;
    const auto other = random_tokens(20, kTinyVocab, 100 + seed);
    std::copy(other.begin(), other.end(), changed.begin() + 100);
    auto whole = open_tiny_session(model);
    const auto want = sync_copy(whole, changed);
    const auto want_next = decode_copy(whole, 7);

    REQUIRE(session.continue_from(*early, first(text, 100)).has_value());
    const int64_t joint = session.joint_tokens();
    const int64_t until = (session.affected_until(100, 120) + joint - 1) / joint * joint;
    sync_copy(session, first(changed, static_cast<size_t>(until)));
    REQUIRE(session.continue_as(*late, std::span(changed).subspan(static_cast<size_t>(until))).has_value());
    CHECK(std::equal(session.tokens().begin(), session.tokens().end(), changed.begin(), changed.end()));
    CHECK(sync_copy(session, changed) == want);
    CHECK(session.reused_tokens() == 399);
    CHECK(decode_copy(session, 7) == want_next);
  }
}

TEST_CASE("a session continues as a fork of its own text, whatever kind of state it keeps", "[runtime][session]") {
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const auto model = load_tiny(arch);
    const auto text = random_tokens(300, kTinyVocab, 9);
    auto session = open_tiny_session(model);
    // Layers that see, or carry on, everything.
    if (arch != "gemma3") CHECK(session.affected_until(10, 20) == INT64_MAX);
    sync_copy(session, first(text, 128));
    const auto early = session.fork();
    const auto want = sync_copy(session, text);
    const auto late = session.fork();
    REQUIRE(early.has_value());
    REQUIRE(late.has_value());
    const auto want_next = decode_copy(session, 3);
    REQUIRE(session.continue_from(*early, first(text, 128)).has_value());
    REQUIRE(session.continue_as(*late, std::span(text).subspan(128)).has_value());
    CHECK(decode_copy(session, 3) == want_next);
    // The other way round, too: back again to before.
    REQUIRE(session.continue_from(*early, first(text, 128)).has_value());
    CHECK(sync_copy(session, text) == want);
  }
}
