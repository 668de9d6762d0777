// The forecast: bytes as the policy has them, and rates that make sense; how true they are is a matter of measuring.
#include "src/runtime/forecast.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "src/runtime/budget.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

TEST_CASE("the bytes that a token reads are those of the cache, or of what its policy chooses", "[runtime][forecast]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    const auto model = load_tiny(arch);
    const model::ModelConfig& config = model->config();
    model::CacheOptions cache;
    uint64_t growing = 0;
    for (const uint64_t bytes : append_bytes(config, cache)) growing += bytes;
    // From one position to another a dense query reads the blocks between them besides.
    CHECK(cache_bytes_read(config, cache, 8191) - cache_bytes_read(config, cache, 4095) == 64 * growing);
    cache.attention = model::attention_for(config, {"stream", "auto", 0, "auto"}, 1 << 20).value();
    CHECK(cache_bytes_read(config, cache, 8191) == cache_bytes_read(config, cache, 1 << 19 | 63));
    cache.attention = model::attention_for(config, {"select", "auto", 0, "auto"}, 1 << 20).value();
    const uint64_t near = cache_bytes_read(config, cache, 8191), far = cache_bytes_read(config, cache, 16383);
    CHECK(far > near);
    CHECK(far - near <= 128 * growing / 2);  // an index is smaller than what it is an index of
  }
}

TEST_CASE("a forecast of any model has rates, and falls with the context", "[runtime][forecast]") {
  const test::TempDir dir;
  for (const std::string arch : {"llama", "gemma2", "qwen3next", "mamba2", "qwen3moe"}) {
    const auto model = load_tiny(arch);
    for (const char* policy : {"dense", "select"}) {
      for (const bool on_disk : {false, true}) {
        if (on_disk && arch != "llama") continue;
        CAPTURE(arch, policy, on_disk);
        ForecastRequest request;
        TinyOptions tiny;
        tiny.arch = arch;
        request.file = open_tiny(tiny_recipe(tiny));
        request.n_ctx = 100000;
        request.cache.attention = model::attention_for(model->config(), {policy, "auto", 0, "auto"}, 100000).value();
        request.disk_bytes = on_disk ? 1 << 30 : 0;
        request.memory_bytes = 1 << 20;
        request.directory = dir.path();
        const auto made = forecast(request, model->config());
        INFO((made.has_value() ? "" : made.error().message));
        REQUIRE(made.has_value());
        for (const double rate : {made->stream_gbs, made->linear_gflops, made->prefill_tps_begin, made->prefill_tps_end,
                                  made->prefill_seconds, made->decode_tps_begin, made->decode_tps_end}) {
          CHECK(std::isfinite(rate));
          CHECK(rate > 0);
        }
        CHECK((made->disk_gbs > 0) == on_disk);
        CHECK(made->prefill_tps_end <= made->prefill_tps_begin);
        CHECK(made->decode_tps_end <= made->decode_tps_begin);
        CHECK(made->prefill_seconds >= 0.9 * 100000 / made->prefill_tps_begin);
        CHECK(made->prefill_seconds <= 1.1 * 100000 / made->prefill_tps_end);
        CHECK(made->weight_bytes > 0);
      }
    }
  }
}
