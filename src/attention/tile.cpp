#include "src/attention/tile.hpp"

#include <array>

#include "src/attention/kv_block.hpp"
#include "src/attention/rotation.hpp"
#include "src/attention/turn.hpp"

namespace lcrun::attention {

using kernels::AttnTile;
using kernels::kKvBlock;

// A head's part of the next block is fetched while this one is at work: keys during values and values during keys, or
// each during its own where half a block is not far enough ahead for the latency of the memory. Farther is worse: the
// level 1 cache holds little more (docs/speed.md, 2026-11-23 and 24).
constexpr uint64_t kSmallBlock = uint64_t{12} << 10;

Geometry::Geometry(const AttnParams& params, const KvLayout& layout)
    : group(params.n_heads / layout.n_kv_heads),
      o_stride(round_up(layout.v_dim, kernels::kValuePad)),
      tile_tokens(std::max<int64_t>(1, kTileRows / group)),
      head_bytes(layout.head_bytes()),
      k_bytes(key_part_bytes(layout.k_type, layout.k_dim)),
      k_index(kv_index(layout.k_type)),
      v_index(kv_index(layout.v_type)),
      codes_q(is_quantised(layout.k_type)),
      has_shared(layout.k_type == DType::kQ4_0) {}

int64_t TileScratch::lay_out(float* memory, const Geometry& geometry, int64_t k_dim, int64_t rows) {
  int64_t used = 0;
  const auto place = [&](int64_t count) {
    float* at = memory == nullptr ? nullptr : memory + used;
    used += round_up(count, 16);
    return at;
  };
  k = reinterpret_cast<std::byte*>(place(k_dim * kKvBlock));
  v = reinterpret_cast<std::byte*>(place(geometry.o_stride * kKvBlock));
  q = place(rows * k_dim);
  codes = reinterpret_cast<int16_t*>(place(rows * k_dim / 2));
  scales = place(rows);
  shared = place(round_up(k_dim, kKvBlock));
  s = place(rows * kKvBlock);
  w = reinterpret_cast<int16_t*>(place(rows * kKvBlock / 2));
  decay = place(rows);
  gain = place(rows);
  span = place(AttnPartial::floats(rows, geometry.o_stride));
  lo = reinterpret_cast<int32_t*>(place(rows));
  hi = reinterpret_cast<int32_t*>(place(rows));
  return used;
}

void TileWorker::gather(int64_t kv_head, int64_t first, int64_t count, int64_t shift,
                        const TileScratch& scratch) const {
  const int64_t k_dim = params_.layout.k_dim;
  const int64_t width = geometry_.group * k_dim;
  float* q = scratch.q;
  for (int64_t t = first; t < first + count; ++t) {
    const float* from = q_.row(t) + kv_head * width;
    for (int64_t i = 0; i < width; ++i) *q++ = from[i] * params_.scale;
  }
  const int64_t rows = count * geometry_.group;
  if (shift != 0) turn(params_.rotary, -shift, scratch.q, rows, k_dim);
  if (is_rotated(params_.layout.k_type)) {
    for (int64_t row = 0; row < rows; ++row) rotate(scratch.q + row * k_dim, k_dim);
  }
  if (geometry_.codes_q) kernel_.quantize_q(scratch.q, rows, k_dim, scratch.codes, scratch.scales);
}

void TileWorker::scatter(int64_t kv_head, int64_t first, int64_t count, const AttnPartial& total) const {
  const int64_t v_dim = params_.layout.v_dim;
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t g = 0; g < geometry_.group; ++g) {
      const int64_t head = kv_head * geometry_.group + g;
      const float* sink = params_.sinks != nullptr ? params_.sinks + head : nullptr;
      float* out = o_.row(first + t) + head * v_dim;
      finish(total, t * geometry_.group + g, sink, v_dim, out);
      if (is_rotated(params_.layout.v_type)) rotate(out, v_dim);
    }
  }
}

void add_shared_scores(const AttnTile& tile, const std::byte* k_part, int64_t sharing, float* shared) {
  constexpr std::array<float, kKvBlock> kOnes = [] {
    std::array<float, kKvBlock> ones{};
    ones.fill(1.0F);
    return ones;
  }();
  const std::byte* halves = shared_key(k_part, tile.k_dim);
  const kernels::OpSlots& ops = kernels::active().ops;
  kernels::active().attention.k_tile[kv_index(DType::kF16)](halves, ceil_div(tile.k_dim, kKvBlock),
                                                            reinterpret_cast<std::byte*>(shared));
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float shift = ops.dot(tile.q + row * tile.k_dim, shared, tile.k_dim);
    ops.add_scaled(tile.s + row * kKvBlock, kOnes.data(), shift, sharing);
  }
}

void score_part(const AttnTile& tile, int64_t k_index, const std::byte* part, std::byte* memory) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  if (tile.rows <= kDirectRows || k_index == 0) {  // floats are tiles as they lie
    kernel.scores[k_index](tile, part);
  } else {
    kernel.k_tile[k_index](part, tile.k_dim, memory);
    kernel.scores_of_tile[k_index](tile, memory);
  }
}

void add_values(const AttnTile& tile, int64_t v_index, const std::byte* part, int64_t v_dim, std::byte* memory) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  if (v_dim == tile.o_stride && (tile.rows <= kDirectRows || v_index == 0)) {
    kernel.accumulate[v_index](tile, part);
  } else {
    kernel.v_tile[v_index](part, v_dim, memory);
    kernel.accumulate_tile[v_index](tile, memory);
  }
}

void TileWorker::compute(const AttnTile& tile, const std::byte* head, int64_t sharing, const Geometry& geometry,
                         const TileScratch& scratch) const {
  score_part(tile, geometry.k_index, head, scratch.k);
  if (geometry.has_shared) add_shared_scores(tile, head, sharing, scratch.shared);
  kernel_.softmax[geometry.v_index](tile);
  add_values(tile, geometry.v_index, head + geometry.k_bytes, params_.layout.v_dim, scratch.v);
}

// Queries whose own block this is come first and read it open, if the layout is sealed.
void TileWorker::visit_block(const Visit& visit, const TileScratch& scratch, const AttnPartial& partial) const {
  Visit own = visit, later = visit;
  const int64_t end = (visit.block + 1) * kKvBlock - (pos0_ + visit.first);
  own.count = params_.open == nullptr ? 0 : std::clamp<int64_t>(end, 0, visit.count);
  later.skipped = own.count;
  if (own.count > 0) visit_form(own, true, scratch, partial);
  if (later.skipped < later.count) visit_form(later, false, scratch, partial);
}

// Some queries meet rows of one block in one form. The queries that see any of it are neighbours.
void TileWorker::visit_form(const Visit& visit, bool is_open, const TileScratch& scratch,
                            const AttnPartial& partial) const {
  const Segment& rows = visit.rows;
  const int64_t base = visit.block * kKvBlock;
  const int64_t head = pos0_ + visit.first;
  const int64_t count = visit.count;
  AttnTile tile;
  tile.whole = rows.first_row <= base && base + kKvBlock <= std::min(rows.end_row, head + visit.skipped + 1) &&
               floor_of(head + count - 1) <= base;
  int64_t begin = tile.whole ? visit.skipped : count;
  int64_t end = tile.whole ? count : 0;
  for (int64_t t = visit.skipped; t < count && !tile.whole; ++t) {
    const int64_t lo = std::max({rows.first_row, floor_of(head + t), base}) - base;
    const int64_t hi = std::min({rows.end_row, head + t + 1, base + kKvBlock}) - base;
    if (hi <= lo) continue;
    begin = std::min(begin, t);
    end = t + 1;
    std::fill_n(scratch.lo + t * geometry_.group, geometry_.group, static_cast<int32_t>(lo));
    std::fill_n(scratch.hi + t * geometry_.group, geometry_.group, static_cast<int32_t>(hi));
  }
  if (begin >= end) return;
  const int64_t row = begin * geometry_.group;
  tile.rows = (end - begin) * geometry_.group;
  tile.k_dim = params_.layout.k_dim;
  tile.o_stride = geometry_.o_stride;
  tile.soft_cap = params_.soft_cap;
  tile.q = scratch.q + row * tile.k_dim;
  tile.q_codes = scratch.codes + row * tile.k_dim;
  tile.q_scales = scratch.scales + row;
  tile.s = scratch.s;
  tile.w = scratch.w;
  tile.o = partial.o + row * tile.o_stride;
  tile.m = partial.m + row;
  tile.l = partial.l + row;
  tile.decay = scratch.decay;
  tile.gain = scratch.gain;
  tile.lo = scratch.lo + row;
  tile.hi = scratch.hi + row;
  const Geometry& geometry = is_open ? open_geometry_ : geometry_;
  const std::byte* part = head_part(visit.block, visit.kv_head, is_open);
  const bool has_next = !is_open && base + kKvBlock < visit.fetch_end;
  const int64_t next = has_next ? head_part(visit.block + 1, visit.kv_head, false) - part : 0;
  const int64_t half = has_next && geometry.head_bytes <= kSmallBlock ? 0 : static_cast<int64_t>(geometry.k_bytes);
  tile.after_k = half > 0 ? half : next;
  tile.after_v = has_next ? next - half : 0;
  compute(tile, part, sharing_keys(visit.block), geometry, scratch);
}

void TileWorker::visit(int64_t kv_head, int64_t first, int64_t count, Segment rows, const TileScratch& scratch,
                       const AttnPartial& partial, int64_t fetch_end) const {
  for (int64_t block = rows.first_row / kKvBlock; block * kKvBlock < rows.end_row; ++block) {
    visit_block({kv_head, first, 0, count, block, rows, fetch_end}, scratch, partial);
  }
}

}  // namespace lcrun::attention
