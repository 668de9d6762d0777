// Probes: what they count is the softmax of the scores, summed, whatever the plan and the format of the cache.
#include "src/attention/probe.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::AttnProbe;
using attention::KvLayout;
using attention::PlanTile;
using attention::Segment;
using attention::WatchedHead;

namespace {

constexpr int64_t kDim = 32;
constexpr int64_t kHeads = 6;

AttnParams make_params(DType type) {
  AttnParams params;
  params.layout = KvLayout{2, kDim, 32, type, type};
  params.n_heads = kHeads;
  params.scale = 0.25F;
  return params;
}

// Weights of one query head over the rows of the segments, in double precision, from the cache's own rows.
std::vector<double> weights_of(const AttnParams& params, const AttentionCache& cache,
                               const std::vector<Segment>& segments, const float* q, int64_t head, int64_t pos) {
  const KvLayout& layout = params.layout;
  std::vector<double> scores(static_cast<size_t>(cache.region.rows()), -1e300);
  double top = params.sinks != nullptr ? double(params.sinks[head]) : -1e300;
  for (const Segment& segment : segments) {
    for (int64_t row = segment.first_row; row < std::min(segment.end_row, pos + 1); ++row) {
      std::vector<float> k(size_t(layout.n_kv_heads * kDim)), v(k.size());
      attention::decode_kv(layout, cache.region.block(row / 64), row % 64, k.data(), v.data(), row / 64);
      double s = 0;
      for (int64_t d = 0; d < kDim; ++d) s += double(q[head * kDim + d]) * double(k[size_t(head / 3 * kDim + d)]);
      s *= double(params.scale);
      if (params.soft_cap != 0.0F) s = double(params.soft_cap) * std::tanh(s / double(params.soft_cap));
      scores[size_t(row)] = s;
      top = std::max(top, s);
    }
  }
  double total = params.sinks != nullptr ? std::exp(double(params.sinks[head]) - top) : 0;
  for (double& s : scores) total += s = s < -1e299 ? 0 : std::exp(s - top);
  for (double& s : scores) s /= total;
  return scores;
}

struct Setup {
  AttnParams params;
  AttentionCache cache;
  std::vector<float> q;

  Setup(DType type, int64_t n, int64_t n_queries) : params(make_params(type)), cache(params.layout, n, 3) {
    cache.reserve_until(params.layout, n);
    cache.region.commit_rows(n);
    q = Random(9).row(n_queries * kHeads * kDim, -2, 2);
  }
  MatView queries() {
    const int64_t width = kHeads * kDim;
    return {q.data(), static_cast<int64_t>(q.size()) / width, width, width};
  }
};

}  // namespace

TEST_CASE("a probe counts the softmax of the watched heads and queries, and of no others", "[attention][probe]") {
  constexpr int64_t n = 200, n_queries = 40, pos0 = n - n_queries;
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    for (const float soft_cap : {0.0F, 3.0F}) {
      Setup made(type, n, n_queries);
      made.params.soft_cap = soft_cap;
      const std::vector<float> sinks(size_t(kHeads), 0.5F);
      if (soft_cap != 0.0F) made.params.sinks = sinks.data();
      AttnProbe probe({{4, 1, 0}, {4, 5, 0}, {4, 2, 1}, {7, 0, 1}});
      probe.watch(pos0 + 3, pos0 + 20);
      CHECK_FALSE(probe.wants(5, pos0, n_queries));
      CHECK_FALSE(probe.wants(4, pos0 + 20, 5));
      REQUIRE(probe.wants(4, pos0, n_queries));
      REQUIRE(probe.observe_dense(4, made.params, made.cache.region, pos0, made.queries()).has_value());
      std::vector<double> want(size_t(n), 0.0), other(size_t(n), 0.0);
      for (int64_t t = 3; t < 20; ++t) {
        const float* q = made.queries().row(t);
        for (const int64_t head : {1, 5, 2}) {
          const auto w = weights_of(made.params, made.cache, {{0, n}}, q, head, pos0 + t);
          for (size_t i = 0; i < size_t(n); ++i) (head == 2 ? other : want)[i] += w[i];
        }
      }
      const auto mass = probe.mass(0, n, 0), second = probe.mass(0, n, 1);
      for (size_t i = 0; i < size_t(n); ++i) {
        CHECK(double(mass[i]) == Approx(want[i]).margin(1e-4));
        CHECK(double(second[i]) == Approx(other[i]).margin(1e-4));
      }
      CHECK(probe.mass(70, 90, 0) == std::vector<float>(mass.begin() + 70, mass.begin() + 90));
      probe.watch(pos0 + 3, pos0 + 4);
      probe.count_from(0.05F);
      REQUIRE(probe.observe_dense(4, made.params, made.cache.region, pos0, made.queries()).has_value());
      const auto w = weights_of(made.params, made.cache, {{0, n}}, made.queries().row(3), 2, pos0 + 3);
      const auto large = probe.mass(0, n, 1);
      for (size_t i = 0; i < size_t(n); ++i) {
        if (std::abs(w[i] - 0.05) > 1e-3) CHECK(double(large[i]) == Approx(w[i] < 0.05 ? 0 : w[i]).margin(1e-4));
      }
      probe.watch(0, n);
      CHECK(probe.mass(0, n, 0) == std::vector<float>(size_t(n), 0.0F));
    }
  }
}

TEST_CASE("a probe reads the rows that a plan names, each tile its own", "[attention][probe]") {
  constexpr int64_t n = 640, pos0 = 600;
  Setup made(DType::kF16, n, 2);
  const std::vector<Segment> first{{0, 64}, {192, 256}, {570, 601}}, second{{64, 128}, {576, 602}};
  const PlanTile tiles[] = {{0, 1, -1, first}, {1, 1, 0, second}, {1, 1, 1, first}};
  AttnProbe probe({{0, 0, 0}, {0, 4, 1}});
  probe.watch(0, n);
  REQUIRE(probe.observe(0, made.params, made.cache.region, {tiles}, pos0, made.queries()).has_value());
  const auto add = [&](std::vector<double>& to, const std::vector<Segment>& rows, int64_t query, int64_t head) {
    const auto w = weights_of(made.params, made.cache, rows, made.queries().row(query), head, pos0 + query);
    for (size_t i = 0; i < w.size(); ++i) to[i] += w[i];
  };
  std::vector<double> head0(size_t(n), 0.0), head4(size_t(n), 0.0);
  add(head0, first, 0, 0);
  add(head0, second, 1, 0);
  add(head4, first, 0, 4);
  add(head4, first, 1, 4);
  const auto mass0 = probe.mass(0, n, 0), mass4 = probe.mass(0, n, 1);
  for (size_t i = 0; i < size_t(n); ++i) {
    CHECK(double(mass0[i]) == Approx(head0[i]).margin(1e-4));
    CHECK(double(mass4[i]) == Approx(head4[i]).margin(1e-4));
  }
}

TEST_CASE("a probe may leave out the layers above those that it watches", "[attention][probe]") {
  AttnProbe probe({{2, 0, 0}, {5, 1, 0}});
  CHECK(probe.layers_to_run(12) == 12);
  probe.leave_out_the_rest(true);
  CHECK(probe.layers_to_run(12) == 6);
  CHECK(probe.layers_to_run(4) == 4);
}
