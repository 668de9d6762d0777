// A layer's cache with an index of its blocks, and what a selector chooses there.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <optional>
#include <vector>

#include "src/attention/selector.hpp"
#include "tests/support/reference_attention.hpp"

namespace lcrun::test {

// A layer's cache of random keys, rotated for their positions, with its index.
struct Indexed {
  std::vector<double> frequency;
  attention::AttnParams params;
  AttentionCache cache;
  std::vector<float> raw;  // keys before rotation  // [n, n_kv_heads * k_dim]
  std::optional<attention::BlockIndex> index;
  std::optional<storage::Region> rows;
  std::optional<attention::BlockIndex> coarse;  // for readings with levels
  std::optional<storage::Region> coarse_rows;

  Indexed(const char* kind, DType type, int64_t n, uint64_t seed = 5, int64_t k_dim = 32)
      : params(make_params(type, k_dim)), cache(params.layout, n, seed), raw(cache.k) {
    for (int64_t i = 0; i < k_dim / 2; ++i) frequency.push_back(std::pow(10000.0, -2.0 * double(i) / double(k_dim)));
    params.rotary = {frequency, true};
    index.emplace(*attention::find_index_kind(kind), params.layout, params.rotary);
    rows.emplace(index->region());
  }
  void build(int64_t n) {
    const int64_t width = params.layout.n_kv_heads * params.layout.k_dim;
    cache.k = raw;
    for (int64_t row = 0; row < n; ++row) {
      attention::turn(params.rotary, row, cache.k.data() + row * width, params.layout.n_kv_heads, params.layout.k_dim);
    }
    cache.reserve_until(params.layout, n);
    cache.region.commit_rows(n);
    const int64_t n_rows = rows->spec().rows_of(n);
    REQUIRE(rows->reserve_rows(n_rows).has_value());
    for (int64_t b = 0; b < n / 64; ++b) index->make_rows(b, std::as_const(cache.region).block(b), *rows);
    rows->commit_rows(n_rows);
  }
  void build_coarse(const char* kind) {
    coarse.emplace(*attention::find_index_kind(kind), params.layout, params.rotary);
    coarse_rows.emplace(coarse->region());
    const int64_t n = coarse_rows->spec().rows_of(cache.region.rows());
    REQUIRE(coarse_rows->reserve_rows(n).has_value());
    for (int64_t b = 0; b < cache.region.rows() / 64; ++b) {
      coarse->make_rows(b, std::as_const(cache.region).block(b), *coarse_rows);
    }
    coarse_rows->commit_rows(n);
  }
  static attention::AttnParams make_params(DType type, int64_t k_dim) {
    attention::AttnParams params;
    params.layout = attention::KvLayout{2, k_dim, 32, type, type};
    params.n_heads = 6;
    params.scale = 0.25F;
    return params;
  }
  // Scores of block b by its keys, each query head for itself: the best of the index rows as the kind defines them.
  double reference(const attention::IndexKind& kind, const std::vector<float>& q, int64_t head, int64_t pos,
                   int64_t b) const {
    const int64_t dim = params.layout.k_dim, half = dim / 2, width = params.layout.n_kv_heads * dim;
    const float* query = q.data() + head * dim;
    const auto turned = [&](const float* x, double angle_pos) {
      std::vector<double> out(static_cast<size_t>(dim));
      for (int64_t i = 0; i < half; ++i) {
        const double c = std::cos(angle_pos * frequency[size_t(i)]), s = std::sin(angle_pos * frequency[size_t(i)]);
        out[size_t(i)] = double(x[i]) * c - double(x[i + half]) * s;
        out[size_t(i + half)] = double(x[i + half]) * c + double(x[i]) * s;
      }
      return out;
    };
    const auto near_query = turned(query, double(128 - pos));
    double best = -1e300;
    for (int64_t row = 0; row < 64; row += kind.row_tokens) {
      std::vector<double> sum(size_t(dim), 0.0), top(size_t(dim), -1e300), low(size_t(dim), 1e300);
      for (int64_t i = row; i < row + kind.row_tokens; ++i) {
        if (kind.reduce == attention::IndexReduce::kMiddle && i != row + kind.row_tokens / 2) continue;
        const auto key = turned(raw.data() + (b * 64 + i) * width + head / 3 * dim, double(i));
        for (size_t d = 0; d < size_t(dim); ++d) {
          sum[d] += key[d];
          top[d] = std::max(top[d], key[d]);
          low[d] = std::min(low[d], key[d]);
        }
      }
      double score = 0;
      for (size_t d = 0; d < size_t(dim); ++d) {
        const double mean = kind.reduce == attention::IndexReduce::kMiddle ? sum[d] : sum[d] / double(kind.row_tokens);
        score += kind.reduce == attention::IndexReduce::kBounds
                     ? std::max(near_query[d] * top[d], near_query[d] * low[d])
                     : near_query[d] * mean;
      }
      best = std::max(best, score * double(params.scale));
    }
    return best;
  }
};

struct Chosen {
  std::vector<std::vector<attention::Segment>> tiles;
  std::vector<int64_t> heads;  // of tiles
  int64_t looked_at = 0;
  bool operator==(const Chosen& other) const {
    if (heads != other.heads || tiles.size() != other.tiles.size()) return false;
    for (size_t i = 0; i < tiles.size(); ++i) {
      const auto same = [](const attention::Segment& a, const attention::Segment& b) {
        return a.first_row == b.first_row && a.end_row == b.end_row && a.shift == b.shift;
      };
      if (!std::equal(tiles[i].begin(), tiles[i].end(), other.tiles[i].begin(), other.tiles[i].end(), same))
        return false;
    }
    return true;
  }
};

inline Chosen choose(Indexed& made, const attention::Reading& reading, int64_t pos0, std::vector<float> q,
                     int n_threads = 1, std::span<const int32_t> forced = {}) {
  const int64_t width = made.params.n_heads * made.params.layout.k_dim;
  const auto n = static_cast<int64_t>(q.size()) / width;
  attention::Attention attention;
  attention.n_ctx = pos0 + n;
  attention.ask = reading;
  Workspace scratch;
  REQUIRE(scratch.reserve(attention::plan_scratch_bytes(attention, made.params, n, n_threads)).has_value());
  attention::SelectionExtras extras{.keys = &made.cache.region, .forced = forced};
  if (made.coarse) extras.coarse.emplace(*made.coarse, *made.coarse_rows);
  const auto planned = attention::plan_selection(reading, {&*made.index, &*made.rows}, made.params, pos0,
                                                 {q.data(), n, width, width}, scratch, n_threads, extras);
  REQUIRE(planned.has_value());
  const attention::TilePlan& plan = *planned;
  Chosen out;
  out.looked_at = extras.looked_at;
  for (const auto& tile : plan.tiles) {
    out.tiles.emplace_back(tile.segments.begin(), tile.segments.end());
    out.heads.push_back(tile.kv_head);
  }
  return out;
}

// Far blocks that a tile reads.
inline std::vector<int64_t> blocks_in(const std::vector<attention::Segment>& segments, int64_t first, int64_t end) {
  std::vector<int64_t> blocks;
  for (const auto& segment : segments) {
    for (int64_t b = segment.first_row / 64; b * 64 < segment.end_row; ++b) {
      if (b >= first && b < end) blocks.push_back(b);
    }
  }
  return blocks;
}

inline attention::Reading selecting(const char* index, int64_t blocks,
                                    attention::Scope scope = attention::Scope::kLayer) {
  return {attention::Role::kSelect, 64, 128, {attention::Positions::kRelay}, index, blocks, scope};
}

}  // namespace lcrun::test
