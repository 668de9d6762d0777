// attend() on every instruction set, cache type and geometry against the double-precision definition.
#include <catch2/catch.hpp>
#include <vector>

#include "src/attention/kv_block.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::KvLayout;
using attention::Segment;

namespace {

// Values are within 2; scores carry some 1e-6 relative error over up to 256 products, which e^score turns into
// a relative error of the weights.
constexpr double kTolerance = 1e-5;
// Quantised keys meet queries of 16 bits, quantised values weights of 16 bits: half a step of 1 / 32767 of the
// largest in each dimension or key that matters. The cache's own rounding, not counted here, is a hundred times that.
constexpr double kCodeTolerance = 4e-4;
double tolerance_of(DType k, DType v) {
  return attention::is_quantised(k) || attention::is_quantised(v) ? kCodeTolerance : kTolerance;
}

AttnParams make_params(int64_t n_heads, int64_t n_kv_heads, int64_t k_dim, int64_t v_dim, DType k = DType::kF32,
                       DType v = DType::kF32) {
  AttnParams params;
  params.layout = KvLayout{n_kv_heads, k_dim, v_dim, k, v};
  params.n_heads = n_heads;
  params.scale = 1.0F / std::sqrt(static_cast<float>(k_dim));
  return params;
}

std::vector<Segment> dense(const AttnParams& params, int64_t pos0, int64_t n) {
  return {attention::dense_segment(params, pos0, n)};
}

// Error of queries [pos0, pos0 + n) over a cache of pos0 + n tokens.
double error_of(const AttnParams& params, int64_t pos0, int64_t n, uint64_t seed = 1) {
  AttentionCache cache(params.layout, pos0 + n, seed);
  cache.reserve_until(params.layout, pos0 + n);
  const auto q = Random(seed + 99).row(n * params.n_heads * params.layout.k_dim, -2, 2);
  return worst_error(attention_fast(params, cache.region, {}, pos0, q),
                     attention_reference(params, cache.region, dense(params, pos0, n), pos0, q));
}

const DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};

}  // namespace

TEST_CASE("attention is right for every pair of cache types, in prefill and decode", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType k : kTypes) {
      for (const DType v : kTypes) {
        const AttnParams params = make_params(3, 1, 64, 64, k, v);
        CAPTURE(static_cast<int>(k), static_cast<int>(v));
        REQUIRE(error_of(params, 0, 70) < tolerance_of(k, v));
        REQUIRE(error_of(params, 100, 1) < tolerance_of(k, v));
      }
    }
  });
}

TEST_CASE("attention is right for head sizes with and without vector tails", "[attention]") {
  const int64_t dims[][2] = {{16, 16}, {64, 64}, {80, 80}, {96, 96}, {128, 128}, {256, 256}, {192, 128}, {20, 37}};
  for_each_isa([&](const std::string&) {
    for (const auto& dim : dims) {
      for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
        const AttnParams params = make_params(2, 1, dim[0], dim[1], type, type);
        CAPTURE(dim[0], dim[1], static_cast<int>(type));
        REQUIRE(error_of(params, 0, 67) < kTolerance);
        REQUIRE(error_of(params, 130, 2) < kTolerance);
      }
    }
    for (const int64_t dim : {int64_t{32}, int64_t{96}, int64_t{128}, int64_t{256}}) {
      for (const DType type : {DType::kQ8_0, DType::kQ4_0}) {
        const AttnParams params = make_params(2, 1, dim, dim, type, type);
        CAPTURE(dim, static_cast<int>(type));
        REQUIRE(error_of(params, 0, 67) < kCodeTolerance);
        REQUIRE(error_of(params, 130, 2) < kCodeTolerance);
      }
    }
  });
}

TEST_CASE("attention is right for every grouping of query heads", "[attention]") {
  const int64_t heads[][2] = {{1, 1}, {4, 4}, {3, 1}, {9, 3}, {8, 2}, {7, 1}, {71, 1}};
  for_each_isa([&](const std::string&) {
    for (const auto& head : heads) {
      const AttnParams params = make_params(head[0], head[1], 32, 32, DType::kF16, DType::kF16);
      CAPTURE(head[0], head[1]);
      REQUIRE(error_of(params, 0, 66) < kTolerance);
      REQUIRE(error_of(params, 90, 1) < kTolerance);
      REQUIRE(error_of(params, 90, 5) < kTolerance);
    }
  });
}

TEST_CASE("contexts of several spans are merged rightly", "[attention]") {
  for_each_isa([](const std::string&) {
    AttnParams params = make_params(2, 1, 32, 32, DType::kQ8_0, DType::kF16);
    REQUIRE(error_of(params, 2500, 1) < kCodeTolerance);
    REQUIRE(error_of(params, 2040, 40) < kCodeTolerance);
    params.scale = 2.0F;  // sharp: spans differ widely in their maxima
    REQUIRE(error_of(params, 2500, 1) < 4 * kCodeTolerance);
  });
}

TEST_CASE("more spans than one wave are merged rightly", "[attention]") {
  const AttnParams params = make_params(1, 1, 16, 16, DType::kF16, DType::kF16);
  REQUIRE(error_of(params, 17 * 1024 + 300, 1) < kTolerance);
}

TEST_CASE("soft cap, sinks and windows follow their definitions", "[attention]") {
  for_each_isa([](const std::string&) {
    const std::vector<float> sinks = {0.5F, -3.0F, 4.0F, 20.0F};
    for (const int64_t window : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, int64_t{100}}) {
      for (const float cap : {0.0F, 5.0F}) {
        for (const bool with_sinks : {false, true}) {
          AttnParams params = make_params(4, 2, 32, 32, DType::kF16, DType::kF16);
          params.window = window;
          params.soft_cap = cap;
          params.scale = 1.0F;
          params.sinks = with_sinks ? sinks.data() : nullptr;
          CAPTURE(window, cap, with_sinks);
          REQUIRE(error_of(params, 0, 150) < 2 * kTolerance);
          REQUIRE(error_of(params, 300, 1) < 2 * kTolerance);
        }
      }
    }
  });
}

TEST_CASE("a plan of several segments reads exactly its rows", "[attention]") {
  for_each_isa([](const std::string&) {
    const AttnParams params = make_params(4, 2, 32, 32, DType::kF16, DType::kQ8_0);
    const int64_t n_ctx = 2200;
    AttentionCache cache(params.layout, n_ctx, 5);
    cache.reserve_until(params.layout, n_ctx);
    const std::vector<Segment> segments = {{0, 4}, {10, 11}, {64, 192}, {1000, 1100}, {2050, 2200}};
    for (const int64_t n : {int64_t{1}, int64_t{100}}) {
      const auto q = Random(3).row(n * 4 * 32, -2, 2);
      const auto wanted = attention_reference(params, cache.region, segments, n_ctx - n, q);
      REQUIRE(worst_error(attention_fast(params, cache.region, segments, n_ctx - n, q), wanted) < kCodeTolerance);
    }
  });
}

TEST_CASE("a query that sees no row of the plan yields zeros", "[attention]") {
  const AttnParams params = make_params(2, 1, 32, 32);
  AttentionCache cache(params.layout, 100, 5);
  cache.reserve_until(params.layout, 100);
  const auto q = Random(3).row(10 * 2 * 32);
  for (const float value : attention_fast(params, cache.region, {{80, 100}}, 20, q)) REQUIRE(value == 0.0F);
}
