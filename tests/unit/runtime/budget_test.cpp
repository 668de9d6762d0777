// What is planned from the header is what is used.
#include "src/runtime/budget.hpp"

#include <catch2/catch.hpp>

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
