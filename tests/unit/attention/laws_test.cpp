// What must hold bit for bit: splits of the prompt, threads, rings, and rows that nobody may see.
#include <catch2/catch.hpp>
#include <vector>

#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::KvLayout;

namespace {

AttnParams make_params(DType k, DType v, int64_t window) {
  AttnParams params;
  params.layout = KvLayout{2, 32, 48, k, v};
  if (v == DType::kQ8_0 || v == DType::kQ4_0) params.layout.v_dim = 64;
  params.n_heads = 6;
  params.scale = 0.3F;
  params.window = window;
  return params;
}

// Feeds n tokens in batches whose sizes `next` gives; rows are committed after their attention, as a model does.
template <class Next>
std::vector<float> run_batches(const AttnParams& params, int64_t n, int64_t ring, int n_threads, Next next) {
  AttentionCache cache(params.layout, n, 11, ring);
  const int64_t width = params.n_heads * params.layout.k_dim;
  const std::vector<float> q = Random(12).row(n * width, -2, 2);
  std::vector<float> out;
  for (int64_t pos = 0; pos < n;) {
    const int64_t count = std::min<int64_t>(next(), n - pos);
    cache.reserve_until(params.layout, pos + count);
    const std::vector<float> part(q.begin() + pos * width, q.begin() + (pos + count) * width);
    const auto o = attention_fast(params, cache.region, {}, pos, part, n_threads);
    out.insert(out.end(), o.begin(), o.end());
    cache.region.commit_rows(count);
    pos += count;
  }
  return out;
}

std::vector<float> run_whole(const AttnParams& params, int64_t n, int n_threads = 1) {
  return run_batches(params, n, 0, n_threads, [n] { return n; });
}

const DType kPairs[][2] = {{DType::kF32, DType::kF32},
                           {DType::kF16, DType::kF16},
                           {DType::kBF16, DType::kQ4_0},
                           {DType::kQ8_0, DType::kQ8_0},
                           {DType::kQ4_0, DType::kF16}};

}  // namespace

TEST_CASE("any split of a prompt gives the same bits as one batch", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const auto& pair : kPairs) {
      for (const int64_t window : {int64_t{0}, int64_t{70}}) {
        const AttnParams params = make_params(pair[0], pair[1], window);
        const auto whole = run_whole(params, 300);
        REQUIRE(run_batches(params, 300, 0, 1, [] { return 1; }) == whole);
        for (uint64_t seed = 0; seed < 4; ++seed) {
          Random random(seed);
          REQUIRE(run_batches(params, 300, 0, 1, [&] { return 1 + random.below(seed % 2 == 0 ? 120 : 12); }) == whole);
        }
      }
    }
  });
}

TEST_CASE("a split across a span border gives the same bits as one batch", "[attention]") {
  for_each_isa([](const std::string&) {
    const AttnParams params = make_params(DType::kF16, DType::kF16, 0);
    int64_t step = 0;
    const int64_t steps[] = {1000, 20, 3, 1, 1, 60, 200};
    REQUIRE(run_batches(params, 1285, 0, 2, [&] { return steps[step++]; }) == run_whole(params, 1285));
  });
}

TEST_CASE("the number of threads does not change a bit", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const auto& pair : kPairs) {
      const AttnParams params = make_params(pair[0], pair[1], 0);
      const auto one = run_whole(params, 200);
      REQUIRE(run_whole(params, 200, 2) == one);
      REQUIRE(run_whole(params, 200, 3) == one);
    }
    const AttnParams params = make_params(DType::kF16, DType::kQ8_0, 0);
    AttentionCache cache(params.layout, 5000, 4);
    cache.reserve_until(params.layout, 5000);
    const auto q = Random(5).row(params.n_heads * params.layout.k_dim);
    const auto one = attention_fast(params, cache.region, {}, 4999, q, 1);
    REQUIRE(attention_fast(params, cache.region, {}, 4999, q, 2) == one);
    REQUIRE(attention_fast(params, cache.region, {}, 4999, q, 3) == one);
  });
}

TEST_CASE("a ring gives the same bits as a full cache with a window", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const int64_t window : {int64_t{5}, int64_t{64}, int64_t{100}}) {
      const AttnParams params = make_params(DType::kF16, DType::kQ8_0, window);
      const auto full = run_whole(params, 400);
      Random random(6);
      REQUIRE(run_batches(params, 400, window, 2, [&] { return 1 + random.below(90); }) == full);
      REQUIRE(run_batches(params, 400, window, 1, [] { return 1; }) == full);
    }
  });
}

TEST_CASE("rows that a query may not see cannot reach it, not even as infinities", "[attention]") {
  for_each_isa([](const std::string&) {
    AttnParams params = make_params(DType::kF32, DType::kF32, 0);
    AttentionCache cache(params.layout, 120, 21);
    cache.reserve_until(params.layout, 120);
    for (const int64_t n : {int64_t{1}, int64_t{30}}) {
      const auto q = Random(22).row(n * params.n_heads * params.layout.k_dim);
      const auto clean = attention_fast(params, cache.region, {}, 100 - n, q);
      for (int64_t row = 100; row < 120; ++row) {
        const std::vector<float> bad(static_cast<size_t>(2 * 64), std::numeric_limits<float>::infinity());
        attention::encode_kv(params.layout, bad.data(), bad.data(), row % 64, cache.region.block(row / 64));
      }
      REQUIRE(attention_fast(params, cache.region, {}, 100 - n, q) == clean);
      cache.reserve_until(params.layout, 120);
    }
  });
}

TEST_CASE("rows and columns beside the result stay untouched", "[attention]") {
  const AttnParams params = make_params(DType::kF16, DType::kF16, 0);
  AttentionCache cache(params.layout, 80, 31);
  cache.reserve_until(params.layout, 80);
  const int64_t k_width = params.n_heads * params.layout.k_dim, v_width = params.n_heads * params.layout.v_dim;
  std::vector<float> q = Random(1).row(80 * (k_width + 3));
  std::vector<float> o(static_cast<size_t>(80 * (v_width + 5)), 7.0F);
  Workspace scratch;
  REQUIRE(scratch.reserve(attention::attend_scratch_bytes(params, 80, 1)).has_value());
  const MatView query{q.data(), 80, k_width, k_width + 3};
  const MatView result{o.data(), 80, v_width, v_width + 5};
  REQUIRE(attention::attend(params, cache.region, 0, query, result, scratch, 1).has_value());
  for (int64_t row = 0; row < 80; ++row) {
    for (int64_t c = 0; c < 5; ++c) REQUIRE(o[static_cast<size_t>(row * (v_width + 5) + v_width + c)] == 7.0F);
  }
}
