// What far blocks that are not read are worth, against the formulas in double precision.
#include "src/attention/remainder.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <vector>

#include "src/attention/rotation.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::BlockMeans;
using attention::KvLayout;
using attention::Reading;
using attention::Remainder;
using attention::RemainderTerm;
using attention::Role;
using attention::Scope;
using attention::Segment;

namespace {

constexpr int64_t kTokens = 6000;  // more than 64 blocks

// A cache of keys rotated for their positions, with the means of its blocks.
struct Averaged {
  std::vector<double> frequency;
  AttnParams params;
  AttentionCache cache;
  std::optional<BlockMeans> means;
  std::optional<storage::Region> rows;

  Averaged(DType type, int64_t k_dim, int64_t v_dim)
      : params(params_of(type, k_dim, v_dim)), cache(params.layout, kTokens, 7) {
    for (int64_t i = 0; i < k_dim / 2; ++i) frequency.push_back(std::pow(10000.0, -2.0 * double(i) / double(k_dim)));
    params.rotary = {frequency, true};
    const int64_t width = 2 * k_dim;
    for (int64_t row = 0; row < kTokens; ++row) {
      attention::turn(params.rotary, row, cache.k.data() + row * width, 2, k_dim);
    }
    cache.reserve_until(params.layout, kTokens);
    cache.region.commit_rows(kTokens);
    means.emplace(params.layout, params.rotary);
    rows.emplace(means->region());
    REQUIRE(rows->reserve_rows(kTokens / 64).has_value());
    for (int64_t b = 0; b < kTokens / 64; ++b) means->make_rows(b, std::as_const(cache.region).block(b), *rows);
    rows->commit_rows(kTokens / 64);
  }
  static AttnParams params_of(DType type, int64_t k_dim, int64_t v_dim) {
    AttnParams params;
    params.layout = KvLayout{2, k_dim, v_dim, type, type};
    params.n_heads = 6;
    params.scale = 0.25F;
    return params;
  }
  std::vector<double> turned(const float* x, double pos) const {
    const int64_t dim = params.layout.k_dim, half = dim / 2;
    std::vector<double> out(x, x + dim);
    for (int64_t i = 0; i < half; ++i) {
      const double c = std::cos(pos * frequency[size_t(i)]), s = std::sin(pos * frequency[size_t(i)]);
      out[size_t(i)] = double(x[i]) * c - double(x[i + half]) * s;
      out[size_t(i + half)] = double(x[i + half]) * c + double(x[i]) * s;
    }
    return out;
  }
  double logit(const std::vector<double>& q, const float* key) const {
    double score = 0;
    for (size_t d = 0; d < q.size(); ++d) score += q[d] * double(key[d]);
    score *= double(params.scale);
    const double cap = double(params.soft_cap);
    return cap > 0 ? cap * std::tanh(score / cap) : score;
  }
};

struct Weighed {
  double logit;
  std::vector<double> value;
};
// Their attention, and the logarithm of their sum.
std::pair<std::vector<double>, double> attend_to(const std::vector<Weighed>& all, int64_t v_dim) {
  double top = -1e300, total = 0;
  for (const Weighed& one : all) top = std::max(top, one.logit);
  std::vector<double> out(size_t(v_dim), 0.0);
  for (const Weighed& one : all) {
    const double weight = std::exp(one.logit - top);
    total += weight;
    for (size_t d = 0; d < out.size(); ++d) out[d] += weight * one.value[d];
  }
  for (double& x : out) x /= total;
  return {out, top + std::log(total)};
}

// The term by its definition. Rows of the cache and means are read as they were rounded.
std::vector<double> reference(Averaged& made, const Reading& reading, const std::vector<Segment>& segments,
                              int64_t pos0, const std::vector<float>& q) {
  const KvLayout& layout = made.params.layout;
  const int64_t k_dim = layout.k_dim, v_dim = layout.v_dim, width = 6 * k_dim;
  const auto n = static_cast<int64_t>(q.size()) / width;
  const int64_t first = std::max(reading.sinks, reading.gone_until) / 64, end = reading.window_begin(pos0) / 64;
  std::vector<std::vector<float>> keys, values;
  for (int64_t row = 0; row < pos0 + n; ++row) {
    keys.emplace_back(size_t(2 * k_dim));
    values.emplace_back(size_t(2 * v_dim));
    attention::decode_kv(layout, made.cache.region.block(row / 64), row % 64, keys.back().data(), values.back().data());
  }
  std::vector<double> out;
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t head = 0; head < 6; ++head) {
      const int64_t kv_head = head / 3, pos = pos0 + t;
      const float* query = q.data() + t * width + head * k_dim;
      std::vector<Weighed> read, left;
      std::vector<bool> is_read(size_t(end), false);
      for (const Segment& segment : segments) {
        const auto moved = made.turned(query, -double(segment.shift));
        for (int64_t row = segment.first_row; row < std::min(segment.end_row, pos + 1); ++row) {
          const float* value = values[size_t(row)].data() + kv_head * v_dim;
          read.push_back({made.logit(moved, keys[size_t(row)].data() + kv_head * k_dim), {value, value + v_dim}});
          if (row / 64 < end) is_read[size_t(row / 64)] = true;
        }
      }
      const auto near = made.turned(query, double(attention::kIndexQueryPlace - pos));
      std::vector<double> mean(size_t(v_dim), 0.0);
      for (int64_t b = first; b < end; ++b) {
        std::vector<float> key(static_cast<size_t>(k_dim)), value(static_cast<size_t>(v_dim));
        made.means->read_row(b, kv_head, *made.rows, key.data(), value.data());
        if (attention::is_rotated(layout.v_type)) attention::rotate(value.data(), v_dim);
        for (size_t d = 0; d < mean.size(); ++d) mean[d] += double(value[d]) / double(end - first);
        if (is_read[size_t(b)]) continue;
        left.push_back({made.logit(near, key.data()) + std::log(64.0), {value.begin(), value.end()}});
      }
      if (made.params.sinks != nullptr)
        read.push_back({double(made.params.sinks[head]), std::vector<double>(size_t(v_dim), 0.0)});
      const auto [of_read, read_sum] = attend_to(read, v_dim);
      const auto [of_left, left_sum] = attend_to(left, v_dim);
      const double share = 1 / (1 + std::exp(left_sum - read_sum));
      for (size_t d = 0; d < size_t(v_dim); ++d) {
        const double other = reading.remainder == Remainder::kMean ? mean[d] : of_left[d];
        out.push_back(share * of_read[d] + (1 - share) * other);
      }
    }
  }
  return out;
}

Reading reading_of(Remainder remainder) {
  Reading reading{Role::kSelect, 64, 128, {}, "mean", 4, Scope::kLayer};
  reading.remainder = remainder;
  return reading;
}

std::vector<float> run(Averaged& made, const Reading& reading, const std::vector<Segment>& segments, int64_t pos0,
                       const std::vector<float>& q, int n_threads = 1, bool with_term = true) {
  const int64_t width = 6 * made.params.layout.k_dim, out_width = 6 * made.params.layout.v_dim;
  const auto n = static_cast<int64_t>(q.size()) / width;
  std::vector<float> queries = q, out(static_cast<size_t>(n * out_width));
  Workspace scratch;
  REQUIRE(scratch.reserve(attention::tile_scratch_bytes(made.params, n, n_threads)).has_value());
  const attention::PlanTile tile{0, n, -1, segments};
  const RemainderTerm rest(reading, *made.means, *made.rows, made.params);
  REQUIRE(attention::execute(made.params, made.cache.region, attention::TilePlan{{&tile, 1}}, pos0,
                             {queries.data(), n, width, width}, {out.data(), n, out_width, out_width}, scratch,
                             n_threads, with_term ? &rest : nullptr)
              .has_value());
  return out;
}

double worst(const std::vector<float>& found, const std::vector<double>& wanted) {
  double most = 0;
  for (size_t i = 0; i < wanted.size(); ++i) most = std::max(most, std::abs(double(found[i]) - wanted[i]));
  return most;
}

// Sinks, three chosen blocks in their relayed places, and the window.
std::vector<Segment> some_segments(int64_t pos0, int64_t n) {
  const int64_t window = (pos0 / 64 - 2) * 64;
  return {{0, 64, window - 256}, {192, 256, window - 64 * 6}, {4096, 4224, window - 4096 - 128}, {window, pos0 + n, 0}};
}

}  // namespace

TEST_CASE("means of blocks are those of their keys, as an index sees them, and of their values", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0}) {
      for (const auto& [k_dim, v_dim] : std::vector<std::pair<int64_t, int64_t>>{{32, 32}, {64, 96}, {24, 40}}) {
        if (k_dim % 32 != 0 && (type == DType::kQ8_0 || type == DType::kQ4_0)) continue;
        CAPTURE(static_cast<int>(type), k_dim, v_dim);
        Averaged made(type, k_dim, v_dim);
        double worst_key = 0, worst_value = 0;
        for (const int64_t b : {0, 1, 63, 64, 92}) {
          for (int64_t head = 0; head < 2; ++head) {
            std::vector<double> key(static_cast<size_t>(k_dim)), value(static_cast<size_t>(v_dim));
            for (int64_t row = 0; row < 64; ++row) {
              std::vector<float> k(static_cast<size_t>(2 * k_dim)), v(static_cast<size_t>(2 * v_dim));
              attention::decode_kv(made.params.layout, made.cache.region.block(b), row, k.data(), v.data(), b);
              const auto near = made.turned(k.data() + head * k_dim, -double(b * 64));
              for (size_t d = 0; d < key.size(); ++d) key[d] += near[d] / 64;
              for (size_t d = 0; d < value.size(); ++d) value[d] += double(v[size_t(head * v_dim) + d]) / 64;
            }
            std::vector<float> k(static_cast<size_t>(k_dim)), v(static_cast<size_t>(v_dim));
            made.means->read_row(b, head, *made.rows, k.data(), v.data());
            if (attention::is_rotated(type)) attention::rotate(v.data(), v_dim);
            worst_key = std::max(worst_key, worst(k, key));
            worst_value = std::max(worst_value, worst(v, value));
          }
        }
        // Half a step of 8 bits of the largest mean, some 0.6; a rotation adds up eight of them at most.
        CHECK(worst_key < 0.005);
        CHECK(worst_value < (type == DType::kQ4_0 ? 0.02 : 0.005));
      }
    }
  });
}

TEST_CASE("blocks that are not read count by their means, as the formulas say in double precision", "[attention]") {
  for_each_isa([](const std::string&) {
    const std::vector<float> sinks{0.5F, 2.0F, -1.0F, 0.0F, 4.0F, 1.0F};
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      for (const Remainder remainder : {Remainder::kBlocks, Remainder::kMean}) {
        for (const int64_t n : {1, 3, 64}) {
          for (const int64_t v_dim : {32, 40}) {
            if (v_dim == 40 && type != DType::kF16) continue;
            Averaged made(type, 32, v_dim);
            made.params.soft_cap = n == 3 ? 5.0F : 0.0F;
            made.params.sinks = n == 1 ? nullptr : sinks.data();
            CAPTURE(static_cast<int>(type), static_cast<int>(remainder), n, v_dim);
            const int64_t pos0 = 5888;
            const auto q = Random(8).row(n * 6 * 32, -2, 2);
            const auto segments = some_segments(pos0, n);
            const Reading reading = reading_of(remainder);
            const auto found = run(made, reading, segments, pos0, q);
            const auto wanted = reference(made, reading, segments, pos0, q);
            // Queries of 16 bits meet keys of 8, weights are rounded to 16.
            CHECK(worst(found, wanted) < (type == DType::kF32 ? 2e-4 : 1e-3));
            CHECK(worst(run(made, reading, segments, pos0, q, 1, false), wanted) > 0.02);
            CHECK(run(made, reading, segments, pos0, q, 3) == found);
          }
        }
      }
    }
  });
}

TEST_CASE("a query's remainder is the same whoever is computed with it, and what was dropped has none", "[attention]") {
  Averaged made(DType::kQ8_0, 32, 32);
  const int64_t pos0 = 5888, width = 6 * 32;
  const auto q = Random(9).row(64 * width, -2, 2);
  for (const Remainder remainder : {Remainder::kBlocks, Remainder::kMean}) {
    for (const int64_t gone : {0, 320, 4160}) {
      Reading reading = reading_of(remainder);
      reading.gone_until = gone;
      auto segments = some_segments(pos0, 64);
      if (gone > 192) segments.erase(segments.begin() + 1);
      if (gone > 4096) segments[1].first_row = 4160;
      const auto whole = run(made, reading, segments, pos0, q);
      CHECK(worst(whole, reference(made, reading, segments, pos0, q)) < 1e-3);
      for (const int64_t t : {0, 1, 40, 63}) {
        const std::vector<float> one(q.begin() + t * width, q.begin() + (t + 1) * width);
        const std::vector<float> want(whole.begin() + t * width, whole.begin() + (t + 1) * width);
        CHECK(run(made, reading, segments, pos0 + t, one) == want);
      }
    }
  }
}

TEST_CASE("where everything is read there is no remainder", "[attention]") {
  Averaged made(DType::kF16, 32, 32);
  const auto q = Random(10).row(3 * 6 * 32, -2, 2);
  for (const Remainder remainder : {Remainder::kBlocks, Remainder::kMean}) {
    const Reading reading = reading_of(remainder);
    const std::vector<Segment> all{{0, 5891, 0}};
    CHECK(run(made, reading, all, 5888, q) == run(made, reading, all, 5888, q, 1, false));
    // Nor where sinks and window meet.
    const std::vector<Segment> few{{0, 163, 0}};
    CHECK(run(made, reading, few, 160, q) == run(made, reading, few, 160, q, 1, false));
    CHECK(reading.window_begin(160) == 0);
    CHECK(RemainderTerm(reading, *made.means, *made.rows, made.params).bytes_read(160) == 0);
  }
}
