// Recall against the softmax over all keys in double precision.
#include "src/attention/recall.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "src/attention/block_index.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::PlanTile;
using attention::RecallMeter;
using attention::Segment;

namespace {

constexpr int64_t kTokens = 700;
constexpr int64_t kPos = 690;
constexpr int64_t kDim = 32;

struct Setup {
  std::vector<double> frequency;
  AttnParams params;
  AttentionCache cache;
  std::vector<float> q = Random(8).row(2 * 6 * kDim, -2, 2);

  explicit Setup(DType type) : params(make_params(type)), cache(params.layout, kTokens, 3) {
    for (int64_t i = 0; i < kDim / 2; ++i) frequency.push_back(std::pow(10000.0, -2.0 * double(i) / double(kDim)));
    params.rotary = {frequency, true};
    cache.reserve_until(params.layout, kTokens);
    cache.region.commit_rows(kTokens);
  }
  static AttnParams make_params(DType type) {
    AttnParams params;
    params.layout = {2, kDim, 32, type, type};
    params.n_heads = 6;
    params.scale = 0.3F;
    return params;
  }
  MatView queries() { return {q.data(), 2, 6 * kDim, 6 * kDim}; }

  // Of one query: the share of exp(scores) on rows of the segments. shift(row): where a key counts as standing.
  template <class Shift>
  double reference(int64_t query, int64_t head, const std::vector<Segment>& segments, Shift shift) const {
    double named = 0, all = 0;
    for (int64_t row = 0; row <= kPos + query; ++row) {
      std::vector<float> k(2 * kDim), v(2 * 32);
      attention::decode_kv(params.layout, cache.region.block(row / 64), row % 64, k.data(), v.data(), row / 64);
      double score = 0;
      const float* from = q.data() + (query * 6 + head) * kDim;
      for (int64_t i = 0; i < kDim / 2; ++i) {
        const double angle = -double(shift(row)) * frequency[size_t(i)];
        const double a = double(from[i]), b = double(from[i + kDim / 2]);
        const float* key = k.data() + head / 3 * kDim;
        score += (a * std::cos(angle) - b * std::sin(angle)) * double(key[i]);
        score += (b * std::cos(angle) + a * std::sin(angle)) * double(key[i + kDim / 2]);
      }
      const double weight = std::exp(score * double(params.scale));
      all += weight;
      for (const Segment& one : segments) named += row >= one.first_row && row < one.end_row ? weight : 0;
    }
    return named / all;
  }
};

}  // namespace

TEST_CASE("recall is the share of the softmax over everything that the plan's rows have", "[attention][recall]") {
  for_each_isa([](const std::string&) {
    for (const DType type : {DType::kF32, DType::kQ8_0}) {
      Setup made(type);
      const std::vector<Segment> first{{0, 64, 300}, {192, 256, 200}, {576, kPos + 1, 0}}, second{{0, kPos + 2, 0}};
      const PlanTile tiles[] = {{0, 1, -1, first}, {1, 1, 0, second}, {1, 1, 1, first}};
      for (const int64_t trained : {int64_t{0}, int64_t{1000}}) {
        RecallMeter meter(trained);
        meter.sample(kPos, 1, 2);
        REQUIRE(meter.observe({7, true, true, false, made.params, made.cache.region, {tiles}, kPos, made.queries()})
                    .has_value());
        // Within the trained context keys stand where they stand; past it, where the plan or the index sees them.
        const auto shift = [&](int64_t query) {
          return [=, &first](int64_t row) {
            if (trained > 0) return int64_t{0};
            for (const Segment& one : first) {
              if (row >= one.first_row && row < one.end_row) return one.shift;
            }
            return kPos + query - attention::kIndexQueryPlace - row / 64 * 64;
          };
        };
        double sum = 0;
        for (int64_t head = 0; head < 6; ++head) {
          sum += made.reference(0, head, first, shift(0)) / 6;
          sum += (head < 3 ? 1.0 : made.reference(1, head, first, shift(1))) / 6;
        }
        REQUIRE(meter.layers().size() == 1);
        CHECK(meter.layers().at(7).samples == 2);
        CHECK(meter.layers().at(7).mean() == Approx(sum / 2).margin(2e-3));
        CHECK(meter.mean() == meter.layers().at(7).mean());
        CHECK(meter.layers().at(7).least <= meter.mean());
      }
    }
  });
}

TEST_CASE("recall is measured at the samples alone, and of what was chosen", "[attention][recall]") {
  Setup made(DType::kF16);
  const std::vector<Segment> all{{0, kPos + 2, 0}};
  const PlanTile tile{0, 2, -1, all};
  const auto samples = [&](int64_t from, int64_t every, int64_t most, bool chosen, bool gaps) {
    RecallMeter meter(0);
    meter.sample(from, every, most);
    REQUIRE(meter.observe({0, chosen, true, gaps, made.params, made.cache.region, {{&tile, 1}}, kPos, made.queries()})
                .has_value());
    return meter.layers().empty() ? 0 : meter.layers().at(0).samples;
  };
  CHECK(samples(kPos, 1, 9, true, false) == 2);
  CHECK(samples(kPos, 2, 9, true, false) == 1);
  CHECK(samples(kPos - 2, 1, 2, true, false) == 0);
  CHECK(samples(kPos + 1, 1, 9, true, false) == 1);
  CHECK(samples(kPos, 1, 9, false, false) == 0);
  CHECK(samples(kPos, 1, 9, true, true) == 0);
}
