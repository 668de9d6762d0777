// What is planned from the header is what is used.
#include "src/runtime/budget.hpp"

#include <catch2/catch.hpp>

#include "src/base/memory_budget.hpp"
#include "src/runtime/engine.hpp"
#include "tests/support/cap_more.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

TEST_CASE("the planned cache is the cache of every architecture", "[runtime][budget]") {
  for (const std::string& arch : tiny_archs()) {
    INFO(arch);
    const auto model = load_tiny(arch);
    for (const int64_t n : {1, 64, 65, 500, 4096}) {
      const model::CacheOptions cache;
      CHECK(cache_bytes(model->config(), cache, n) == model->state_bytes(cache, n));
    }
    CHECK(append_bytes(model->config(), {}) == model->new_state({}).value().append_bytes());
  }
}

TEST_CASE("a cache of 4 bits is planned with its open blocks, and windows in 8 bits", "[runtime][budget]") {
  for (const char* arch : {"llama", "gemma3"}) {
    TinyOptions options;
    options.arch = arch;
    options.head_dim = 32;
    const auto model = model::Model::load(open_tiny(tiny_recipe(options)), {}).value();
    const model::CacheOptions cache{DType::kQ4_0, DType::kQ4_0};
    for (const int64_t n : {1, 64, 65, 500, 4096}) {
      CHECK(cache_bytes(model->config(), cache, n) == model->state_bytes(cache, n));
    }
    CHECK(append_bytes(model->config(), cache) == model->new_state(cache).value().append_bytes());
  }
}

TEST_CASE("the tokens that fit are the most that fit", "[runtime][budget]") {
  const auto model = load_tiny("llama");
  const model::CacheOptions cache;
  const uint64_t room = 3 * cache_bytes(model->config(), cache, 64) + 17;
  CHECK(cache_tokens_that_fit(model->config(), cache, room, 100000) == 192);
  CHECK(cache_tokens_that_fit(model->config(), cache, room, 100) == 100);
  CHECK(cache_tokens_that_fit(model->config(), cache, 1, 100) == 0);
  CHECK(tokens_that_fit(*model, cache, room, 100000) == 192);
}

TEST_CASE("marks take at most what is planned for them", "[runtime][budget]") {
  for (const std::string arch : {"llama", "gemma2", "mamba2"}) {
    INFO(arch);
    const auto model = load_tiny(arch);
    auto options = tiny_session_options();
    options.n_ctx = 4096;
    auto session = open_tiny_session(model, options);
    sync_copy(session, random_tokens(2000, kTinyVocab, 5));
    const uint64_t planned = mark_bytes(model->config(), options.cache, 2000);
    CHECK(session.mark_bytes() <= planned);
    CHECK((session.mark_bytes() > 0) == (arch != "llama"));
    CHECK((planned > 0) == (arch != "llama"));
  }
}

TEST_CASE("a decoded token reads the blocks that its window reaches", "[runtime][budget]") {
  model::ModelConfig config;
  config.layers.resize(2);
  config.layers[1].window = 65;
  CHECK(blocks_read(config, 0) == 2);
  CHECK(blocks_read(config, 64) == 4);
  CHECK(blocks_read(config, 127) == 4);  // keys 63..127: both blocks
  CHECK(blocks_read(config, 128) == 5);  // keys 64..128: blocks 1 and 2, and three of the first layer
}

TEST_CASE("the process holds some memory, and at most what it once held", "[runtime][budget]") {
  CHECK(private_memory_bytes() > 0);
  CHECK(peak_memory_bytes() >= private_memory_bytes() / 2);
  CHECK(available_memory_bytes() > 0);
}

TEST_CASE("the accountant holds what model, cache, index and buffers say that they take", "[runtime][budget]") {
  const MemoryBudget& memory = MemoryBudget::process();
  const auto used = [&] {
    std::array<uint64_t, kArenas> all{};
    for (uint32_t i = 0; i < kArenas; ++i) all[i] = memory.used(static_cast<Arena>(i));
    return all;
  };
  const auto at = [](const auto& held, Arena arena) { return held[static_cast<size_t>(arena)]; };
  const auto before = used();
  const auto more = [&](Arena arena) { return at(used(), arena) - at(before, arena); };
  {
    const auto model = load_tiny("gemma2");
    CHECK(more(Arena::kWeights) >= model->weight_bytes());
    auto options = tiny_session_options();
    options.n_ctx = 4096;
    options.policy.attention = "select";
    options.policy.index = "sub8";
    auto session = open_tiny_session(model, options);
    CHECK(more(Arena::kBuffers) == session.buffer_bytes());
    sync_copy(session, random_tokens(2000, kTinyVocab, 5));
    CHECK(more(Arena::kIndex) > 0);
    CHECK(more(Arena::kCache) + more(Arena::kIndex) == session.state_bytes());
    session.clear();
  }
  CHECK(used() == before);
}

TEST_CASE("a cache that would pass the cap of the process is refused, and goes on below it", "[runtime][budget]") {
  const auto model = load_tiny("llama");
  auto options = tiny_session_options();
  options.n_ctx = 4096;
  auto session = open_tiny_session(model, options);
  const auto tokens = random_tokens(1000, kTinyVocab, 5);
  {
    const test::CapMore room(4 * cache_bytes(model->config(), options.cache, 64));
    const auto refused = session.sync(tokens);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::kNoMemory);
    CHECK(refused.error().message.find("cache wants") != std::string::npos);
    CHECK(session.sync(std::span(tokens).first(100)).has_value());
  }
  CHECK(session.sync(tokens).has_value());
}
