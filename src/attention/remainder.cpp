#include "src/attention/remainder.hpp"

#include <algorithm>
#include <cmath>

#include "src/attention/kv_block.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr float kLogBlock = 4.158883083F;  // log 64
constexpr float kRead = -1e30F;            // a score whose weight vanishes

// Which blocks of group `index` the segments have; returns how many of [lo, hi) they have not.
int64_t mark_read(std::span<const Segment> segments, int64_t index, int64_t lo, int64_t hi, bool* is_read) {
  std::fill_n(is_read, kKvBlock, false);
  const int64_t first = index * kKvBlock;
  for (const Segment& segment : segments) {
    const int64_t from = std::max(segment.first_row / kKvBlock - first, lo);
    const int64_t to = std::min(ceil_div(segment.end_row, kKvBlock) - first, hi);
    if (from < to) std::fill(is_read + from, is_read + to, true);
  }
  return std::count(is_read + lo, is_read + hi, false);
}

}  // namespace

int64_t RemainderTerm::bytes_read(int64_t pos) const {
  return means_.bytes_of(std::max<int64_t>(0, end_far(pos) - first_far()) * kKvBlock);
}

// As BlockIndex sees them, query by query, the heads of the group within.
void RemainderTerm::turn(const Queries& queries, const TileScratch& scratch) const {
  const int64_t dim = params_.layout.k_dim;
  const int64_t group = params_.n_heads / params_.layout.n_kv_heads;
  for (int64_t t = 0; t < queries.count; ++t) {
    IndexQueries out;
    out.n = group;
    out.q = scratch.q + t * group * dim;
    out.codes = scratch.codes + t * group * dim;
    out.scales = scratch.scales + t * group;
    means_.keys().turn_queries(queries.q.row(t) + queries.kv_head * group * dim, queries.pos + t, params_.scale, out);
  }
}

void RemainderTerm::meet(const Group& group, const Queries& queries, int64_t rows, const TileScratch& scratch,
                         const AttnPartial& partial) const {
  const int64_t k_type = kv_index(means_.key_type()), v_type = kv_index(means_.value_type());
  kernels::AttnTile tile;
  tile.rows = rows;
  tile.k_dim = params_.layout.k_dim;
  tile.o_stride = partial.o_stride;
  tile.whole = group.lo == 0 && group.hi == kKvBlock;
  tile.q = scratch.q;
  tile.q_codes = scratch.codes;
  tile.q_scales = scratch.scales;
  tile.s = scratch.s;
  tile.w = scratch.w;
  tile.o = partial.o;
  tile.m = partial.m;
  tile.l = partial.l;
  tile.decay = scratch.decay;
  tile.gain = scratch.gain;
  tile.lo = scratch.lo;
  tile.hi = scratch.hi;
  std::fill_n(scratch.lo, rows, static_cast<int32_t>(group.lo));
  std::fill_n(scratch.hi, rows, static_cast<int32_t>(group.hi));
  if (group.is_read == nullptr) {
    std::fill_n(tile.s, rows * kKvBlock, 0.0F);
  } else {
    score_part(tile, k_type, means_.key_part(group.index, queries.kv_head, rows_), scratch.k);
    if (params_.soft_cap > 0) kernels::active().ops.soft_cap(tile.s, params_.soft_cap, rows * kKvBlock);
    for (int64_t i = 0; i < rows * kKvBlock; ++i) {
      tile.s[i] = group.is_read[i % kKvBlock] ? kRead : tile.s[i] + kLogBlock;
    }
  }
  kernels::active().attention.softmax[v_type](tile);
  if (!group.with_values) return;
  add_values(tile, v_type, means_.value_part(group.index, queries.kv_head, rows_), params_.layout.v_dim, scratch.v);
}

void RemainderTerm::add(const Queries& queries, const TileScratch& scratch, const AttnPartial& total) const {
  const int64_t first = first_far(), end = end_far(queries.pos);
  const auto for_groups = [&](const auto& work) {
    for (int64_t group = first / kKvBlock; group * kKvBlock < end; ++group) {
      work(group, std::max<int64_t>(first - group * kKvBlock, 0), std::min(end - group * kKvBlock, kKvBlock));
    }
  };
  const AttnPartial term = AttnPartial::over(scratch.span, total.rows, total.o_stride);
  const bool is_mean = reading_.remainder == Remainder::kMean;
  bool is_begun = false;
  for_groups([&](int64_t group, int64_t lo, int64_t hi) {
    bool is_read[kKvBlock];
    if (mark_read(queries.segments, group, lo, hi, is_read) == 0) return;
    if (!is_begun) {
      turn(queries, scratch);
      init(term);
    }
    is_begun = true;
    meet({group, lo, hi, is_read, !is_mean}, queries, total.rows, scratch, term);
  });
  if (!is_begun) return;
  if (is_mean) {
    // One row, of scores that are all alike; weights of the other rows are theirs already.
    float m = 0, l = 0;
    AttnPartial mean = AttnPartial::over(term.o, 1, total.o_stride);
    mean.m = &m;
    mean.l = &l;
    init(mean);
    for_groups([&](int64_t group, int64_t lo, int64_t hi) {
      meet({group, lo, hi, nullptr, true}, queries, 1, scratch, mean);
    });
    for (int64_t i = 0; i < total.o_stride; ++i) term.o[i] /= l;
    for (int64_t row = total.rows - 1; row >= 0; --row) {
      for (int64_t i = 0; i < total.o_stride; ++i) term.o[row * total.o_stride + i] = term.o[i] * term.l[row];
    }
  }
  merge(total, term);
}

}  // namespace lcrun::attention
