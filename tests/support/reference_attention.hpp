// Attention in double precision straight from its definition, and a cache to run the fast path on.
//
// The reference knows nothing of blocks, spans or tiles. It reads the decoded rows of the cache, so that what is
// compared is the arithmetic of attention and not the rounding of the cache format.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "src/attention/attention.hpp"
#include "src/attention/plan.hpp"
#include "tests/support/random.hpp"

namespace lcrun::test {

// A layer's cache of n random tokens, all committed.
struct AttentionCache {
  storage::Region region;
  std::vector<float> k, v;  // as given  // [n, n_kv_heads * dim]

  AttentionCache(const attention::KvLayout& layout, int64_t n, uint64_t seed, int64_t window = 0)
      : region({window > 0 ? storage::RegionKind::kRing : storage::RegionKind::kAppend, "kv", layout.block_bytes(),
                window}) {
    Random random(seed);
    k = random.row(n * layout.n_kv_heads * layout.k_dim, -2, 2);
    v = random.row(n * layout.n_kv_heads * layout.v_dim, -2, 2);
  }
  // Encodes rows [region.rows(), end) and makes them readable; commit() them when attention is done.
  void reserve_until(const attention::KvLayout& layout, int64_t end) {
    REQUIRE(region.reserve_rows(end - region.rows()).has_value());
    for (int64_t row = region.rows(); row < end; ++row) {
      attention::encode_kv(layout, k.data() + row * layout.n_kv_heads * layout.k_dim,
                           v.data() + row * layout.n_kv_heads * layout.v_dim, row % 64, region.block(row / 64));
    }
  }
};

// out [n, n_heads * v_dim] for queries at pos0.., over rows of `segments` that the region holds.
inline std::vector<double> attention_reference(const attention::AttnParams& params, const storage::Region& region,
                                               const std::vector<attention::Segment>& segments, int64_t pos0,
                                               const std::vector<float>& q) {
  const attention::KvLayout& layout = params.layout;
  const int64_t width = params.n_heads * layout.k_dim;
  const int64_t n = static_cast<int64_t>(q.size()) / width;
  const int64_t group = params.n_heads / layout.n_kv_heads;
  const int64_t end = pos0 + n;
  std::vector<std::vector<float>> keys, values;  // by row, from region.first_row()
  for (int64_t row = region.first_row(); row < end; ++row) {
    keys.emplace_back(static_cast<size_t>(layout.n_kv_heads * layout.k_dim));
    values.emplace_back(static_cast<size_t>(layout.n_kv_heads * layout.v_dim));
    attention::decode_kv(layout, region.block(row / 64), row % 64, keys.back().data(), values.back().data());
  }
  std::vector<double> out(static_cast<size_t>(n * params.n_heads * layout.v_dim), 0.0);
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t head = 0; head < params.n_heads; ++head) {
      std::vector<std::pair<double, int64_t>> scores;
      const int64_t pos = pos0 + t;
      for (const attention::Segment& segment : segments) {
        for (int64_t row = segment.first_row; row < std::min(segment.end_row, pos + 1); ++row) {
          if (params.window > 0 && row <= pos - params.window) continue;
          const float* key = keys[static_cast<size_t>(row - region.first_row())].data() + head / group * layout.k_dim;
          double score = 0;
          for (int64_t d = 0; d < layout.k_dim; ++d) {
            score += double(q[static_cast<size_t>(t * width + head * layout.k_dim + d)]) * double(key[d]);
          }
          score *= double(params.scale);
          if (params.soft_cap > 0) score = double(params.soft_cap) * std::tanh(score / double(params.soft_cap));
          scores.emplace_back(score, row);
        }
      }
      double top = -1e300, total = 0;
      for (const auto& entry : scores) top = std::max(top, entry.first);
      if (params.sinks != nullptr) top = std::max(top, double(params.sinks[head]));
      for (const auto& entry : scores) total += std::exp(entry.first - top);
      if (params.sinks != nullptr) total += std::exp(double(params.sinks[head]) - top);
      double* o = out.data() + (t * params.n_heads + head) * layout.v_dim;
      for (const auto& entry : scores) {
        const float* value =
            values[static_cast<size_t>(entry.second - region.first_row())].data() + head / group * layout.v_dim;
        const double p = std::exp(entry.first - top) / total;
        for (int64_t d = 0; d < layout.v_dim; ++d) o[d] += p * double(value[d]);
      }
    }
  }
  return out;
}

// The fast path over `segments` (empty: attend()), with scratch of exactly the size promised.
inline std::vector<float> attention_fast(const attention::AttnParams& params, storage::Region& region,
                                         const std::vector<attention::Segment>& segments, int64_t pos0,
                                         const std::vector<float>& q, int n_threads = 1) {
  const int64_t k_width = params.n_heads * params.layout.k_dim;
  const int64_t v_width = params.n_heads * params.layout.v_dim;
  const int64_t n = static_cast<int64_t>(q.size()) / k_width;
  std::vector<float> copy = q;
  std::vector<float> out(static_cast<size_t>(n * v_width), NAN);
  const MatView query{copy.data(), n, k_width, k_width};
  const MatView result{out.data(), n, v_width, v_width};
  Workspace scratch;
  REQUIRE(scratch.reserve(attention::attend_scratch_bytes(params, n, n_threads)).has_value());
  if (segments.empty()) {
    REQUIRE(attention::attend(params, region, pos0, query, result, scratch, n_threads).has_value());
  } else {
    const attention::Plan plan{segments};
    REQUIRE(attention::execute(params, region, plan, pos0, query, result, scratch, n_threads).has_value());
  }
  return out;
}

inline double worst_error(const std::vector<float>& found, const std::vector<double>& wanted) {
  REQUIRE(found.size() == wanted.size());
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return 1e30;
    worst = std::max(worst, std::abs(double(found[i]) - wanted[i]));
  }
  return worst;
}

}  // namespace lcrun::test
