// Past the end of the context: constant memory, the same bits on any way, and never what was dropped.
#include <catch2/catch.hpp>

#include "src/base/log.hpp"
#include "src/runtime/generate.hpp"
#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/own_rows.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

constexpr int64_t kContext = 1024;
constexpr int64_t kPrompt = 900;
constexpr int64_t kChoosing = 4096;  // of policies: more than they read
using Rows = std::vector<std::vector<float>>;

// Heads that every cache type fits.
std::shared_ptr<const model::Model> load_wide(const std::string& arch) {
  TinyOptions options;
  options.arch = arch;
  options.head_dim = 32;
  auto model = model::Model::load(open_tiny(tiny_recipe(options)), {});
  REQUIRE(model.has_value());
  return *model;
}

SessionOptions options_of(DType type, const std::string& policy = "dense", int64_t n_ctx = kContext) {
  SessionOptions options = tiny_session_options();
  options.n_ctx = n_ctx;
  options.cache.type_k = options.cache.type_v = type;
  options.policy = {policy, "auto", 128};
  return options;
}

// Reads the prompt and decodes the rest: logits after each.
Rows run(Session& session, const std::vector<Token>& tokens, int64_t prompt = kPrompt) {
  Rows all;
  all.push_back(sync_copy(session, {tokens.data(), static_cast<size_t>(prompt)}));
  for (auto i = static_cast<size_t>(prompt); i < tokens.size(); ++i) {
    const auto logits = session.decode(tokens[i], Session::AtEnd::kSlide);
    INFO((logits.has_value() ? "" : logits.error().message));
    REQUIRE(logits.has_value());
    all.emplace_back(logits->begin(), logits->end());
  }
  return all;
}

PagingOptions on_disk(storage::Fault fault = storage::Fault::kReadError, int per_thousand = 0) {
  PagingOptions paging;
  paging.open_device = [=]() -> Result<std::unique_ptr<storage::BlockDevice>> {
    storage::FaultPlan faults;
    faults.seed = 9;
    faults.per_thousand[static_cast<size_t>(fault)] = per_thousand;
    return std::unique_ptr<storage::BlockDevice>(std::make_unique<storage::FaultDevice>(
        std::make_unique<storage::SimDevice>(storage::SimConfig{.seed = 4, .capacity = uint64_t{64} << 20}), faults));
  };
  return paging;
}

// With as little memory as a step can do with.
Session open_paged(const std::shared_ptr<const model::Model>& model, SessionOptions options,
                   const PagingOptions& paging) {
  options.paging = paging;
  for (options.max_state_bytes = 32768;; options.max_state_bytes += 8192) {
    auto session = Session::open(model, options);
    if (!session.has_value()) continue;
    REQUIRE(session->page_store() != nullptr);
    return std::move(session).value();
  }
}

// What was logged meanwhile.
struct Lines {
  std::vector<std::string> lines;
  Lines() {
    set_log_sink([this](LogLevel, std::string_view text) { lines.emplace_back(text); });
  }
  ~Lines() { set_log_sink({}); }
};

}  // namespace

TEST_CASE("up to its end a context gives what a larger one gives, and past it something else", "[runtime][past]") {
  const auto tokens = random_tokens(kContext + 100, kTinyVocab, 5);
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      CAPTURE(arch, static_cast<int>(type));
      const auto model = load_wide(arch);
      auto small = open_tiny_session(model, options_of(type));
      auto large = open_tiny_session(model, options_of(type, "dense", 4 * kContext));
      const Rows found = run(small, tokens), wanted = run(large, tokens);
      for (int64_t i = 0; i <= kContext - kPrompt; ++i) {
        CHECK(found[static_cast<size_t>(i)] == wanted[static_cast<size_t>(i)]);
      }
      CHECK(found.back() != wanted.back());
      CHECK(small.is_past_end());
      CHECK_FALSE(large.is_past_end());
    }
  }
}

TEST_CASE("past the end memory and disk stop growing, and pages and threads change no bit", "[runtime][past][paging]") {
  const auto many = random_tokens(4 * kChoosing, kTinyVocab, 6);
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    const auto model = load_wide(arch);
    for (const char* policy : {"dense", "stream", "select", "quest"}) {
      for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
        const bool is_main = std::string(policy) == "dense";
        if (!is_main && type != DType::kF16) continue;
        CAPTURE(arch, policy, static_cast<int>(type));
        const bool is_short = is_main && arch != "qwen3next";
        // More than the pages that a step holds, of the layers there are.
        const int64_t n_ctx = is_short ? kContext : arch == "qwen3next" && !is_main ? 2 * kChoosing : kChoosing;
        const std::vector<Token> tokens(many.begin(), many.begin() + (is_short ? 3 : 2) * n_ctx);
        auto options = options_of(type, policy, n_ctx);
        auto memory = open_tiny_session(model, options);
        run(memory, {tokens.begin(), tokens.begin() + n_ctx + 1100}, n_ctx - 100);
        const uint64_t bytes = memory.state_bytes();
        memory.clear();
        const Rows all = run(memory, tokens, n_ctx - 100);
        CHECK(memory.state_bytes() == bytes);

        options.n_threads = options.n_threads_batch = 3;
        options.batch = 77;
        auto paged = open_paged(model, options, on_disk());
        CHECK(run(paged, tokens, n_ctx - 100) == all);
        CHECK(paged.page_store()->io_stats().bytes_written > 0);
        CHECK(paged.page_store()->disk_bytes() <= model->state_bytes(paged.options().cache, n_ctx) * 5 / 4);
        CHECK(paged.recomputed_tokens() == 0);
      }
    }
  }
}

TEST_CASE("what a disk loses past the end is read again from the first token on", "[runtime][past][paging]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_wide(arch);
    for (const char* policy : {"dense", "select"}) {
      CAPTURE(arch, policy);
      const int64_t n_ctx = std::string(policy) == "dense" ? kContext : kChoosing;
      const auto tokens = random_tokens(n_ctx + 700, kTinyVocab, 7);
      const auto options = options_of(DType::kF16, policy, n_ctx);
      auto memory = open_tiny_session(model, options);
      const Rows wanted = run(memory, tokens, n_ctx - 100);
      auto paged = open_paged(model, options, on_disk(storage::Fault::kFlipOnWrite, 15));
      CHECK(run(paged, tokens, n_ctx - 100) == wanted);
      CHECK(paged.recomputed_tokens() > 0);
    }
  }
}

TEST_CASE("what is not read counts for as long as it was not dropped, in memory or on a disk",
          "[runtime][past][paging]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_wide(arch);
    for (const char* policy : {"select-blocks", "recall-blocks"}) {
      CAPTURE(arch, policy);
      const auto tokens = random_tokens(2 * kChoosing, kTinyVocab, 7);
      auto options = options_of(DType::kQ4_0, policy, kChoosing);
      options.policy.rows = own_rows();
      auto memory = open_tiny_session(model, options);
      const Rows wanted = run(memory, tokens, kChoosing - 100);
      CHECK(memory.is_past_end());
      options.n_threads = options.n_threads_batch = 3;
      options.batch = 77;
      auto paged = open_paged(model, options, on_disk());
      CHECK(run(paged, tokens, kChoosing - 100) == wanted);
    }
  }
}

TEST_CASE("contexts of any length go on past their end", "[runtime][past]") {
  const auto model = load_wide("llama");
  for (const int64_t n_ctx : {1, 2, 63, 64, 65, 100, 127, 128, 191, 192, 193, 255, 256, 300}) {
    for (const char* policy : {"dense", "select", "infllm"}) {
      CAPTURE(n_ctx, policy);
      const auto tokens = random_tokens(3 * n_ctx + 200, kTinyVocab, 8);
      auto options = options_of(DType::kF16, policy, n_ctx);
      auto session = open_tiny_session(model, options);
      const Rows wanted = run(session, tokens, (n_ctx + 1) / 2);
      // An index of few rows a block is dropped less often.
      const auto& cache = session.options().cache;
      const uint64_t index = model->state_bytes(cache, 4096) - model->state_bytes({cache.type_k, cache.type_v}, 4096);
      CHECK(session.state_bytes() <= model->state_bytes(cache, std::max<int64_t>(n_ctx, 64)) + index);
      options.n_threads = 3;
      auto again = open_tiny_session(model, options);
      CHECK(run(again, tokens, (n_ctx + 1) / 2) == wanted);
    }
  }
}

TEST_CASE("nobody slides who did not ask for it", "[runtime][past]") {
  const auto tokens = random_tokens(kContext, kTinyVocab, 9);
  auto session = open_tiny_session(load_wide("llama"), options_of(DType::kF16));
  sync_copy(session, tokens);
  CHECK(session.decode(1).error().code == Code::kInvalidArgument);
  CHECK(session.tokens().size() == kContext);
  REQUIRE(session.decode(1, Session::AtEnd::kSlide).has_value());
  CHECK(session.decode(1).error().code == Code::kInvalidArgument);
  // Back to the beginning, as if nothing had been.
  auto fresh = open_tiny_session(load_wide("llama"), options_of(DType::kF16));
  CHECK(sync_copy(session, {tokens.data(), 500}) == sync_copy(fresh, {tokens.data(), 500}));
  CHECK_FALSE(session.is_past_end());
}

TEST_CASE("a session past its end is kept as its tokens", "[runtime][past]") {
  const auto tokens = random_tokens(kContext + 300, kTinyVocab, 10);
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_wide(arch);
    test::MemoryFiles files;
    auto session = open_tiny_session(model, options_of(DType::kF16));
    sync_copy(session, {tokens.data(), 500});
    REQUIRE(session.save(files, "s").has_value());
    run(session, tokens);
    REQUIRE(session.is_past_end());
    const auto saved = session.save(files, "s", {.note = "what was said"});
    REQUIRE(saved.has_value());
    CHECK(saved->pages == 0);
    // The same context has no room for them, and a larger one reads them again.
    auto small = open_tiny_session(model, options_of(DType::kF16));
    const auto before = sync_copy(small, {tokens.data(), 100});
    const auto refused = small.load(files, "s");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::kNoMemory);
    CHECK(sync_copy(small, {tokens.data(), 100}) == before);
    auto large = open_tiny_session(model, options_of(DType::kF16, "dense", 4 * kContext));
    const auto loaded = large.load(files, "s");
    REQUIRE(loaded.has_value());
    CHECK(loaded->tokens == tokens);
    CHECK(loaded->note == "what was said");
    CHECK_FALSE(loaded->damage.empty());
    auto whole = open_tiny_session(model, options_of(DType::kF16, "dense", 4 * kContext));
    CHECK(sync_copy(large, tokens) == sync_copy(whole, tokens));
    CHECK(large.reused_tokens() == 0);
    // What is new after that is saved with its state again.
    REQUIRE(large.save(files, "s").has_value());
    auto next = open_tiny_session(model, options_of(DType::kF16, "dense", 4 * kContext));
    REQUIRE(next.load(files, "s").has_value());
    CHECK(next.tokens().size() == tokens.size());
  }
}

TEST_CASE("a reply of a given length goes on past the end, says so once, and one without ends there",
          "[runtime][past][generate]") {
  const auto model = load_wide("llama");
  const auto tokenizer = text::Tokenizer::load(model->file());
  REQUIRE(tokenizer.has_value());
  GenerateOptions options;
  options.ignore_eos = true;
  options.sampling.temp = 0.0F;
  const auto prompt = random_tokens(100, kTinyVocab, 11);
  for (const int64_t n : {int64_t{-1}, int64_t{156}, int64_t{157}, int64_t{800}}) {
    CAPTURE(n);
    options.n_predict = n;
    auto session = open_tiny_session(model, options_of(DType::kQ8_0, "dense", 256));
    Lines log;
    const auto made = generate(session, **tokenizer, prompt, options, {});
    REQUIRE(made.has_value());
    CHECK(made->stop == (n < 0 ? StopReason::kContext : StopReason::kLength));
    CHECK(static_cast<int64_t>(made->tokens.size()) == (n < 0 ? 157 : n));
    CHECK(log.lines.size() == (n > 157 ? 1 : 0));
  }
}
