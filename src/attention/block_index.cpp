#include "src/attention/block_index.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/attention/kv_block.hpp"
#include "src/attention/rotation.hpp"
#include "src/attention/tile.hpp"
#include "src/base/check.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr IndexKind kKinds[] = {
    {"scan4", 1, IndexReduce::kMean, DType::kQ4_0,
     "every key in 4 bits; finds the most, 35 bytes a token and head of 64"},
    {"scan8", 1, IndexReduce::kMean, DType::kQ8_0, "every key in 8 bits"},
    {"sub4", 4, IndexReduce::kMean, DType::kQ8_0, "means of 4 keys"},
    {"sub8", 8, IndexReduce::kMean, DType::kQ8_0, "means of 8 keys: enough for heads of 128 and more"},
    {"sub16", 16, IndexReduce::kMean, DType::kQ8_0, "means of 16 keys"},
    {"mean", 64, IndexReduce::kMean, DType::kQ8_0, "one mean a block: too coarse for single sentences at length"},
    {"probe8", 8, IndexReduce::kMiddle, DType::kQ8_0, "every eighth key (HiP's probes)"},
    {"minmax", 64, IndexReduce::kBounds, DType::kQ8_0, "bounds of each dimension (Quest)"},
    {"minmax16", 16, IndexReduce::kBounds, DType::kQ8_0, "bounds of each dimension over 16 keys (Quest's pages)"},
};

// One dimension's 64 keys as rows' elements: out[i * row_dim] for row i.
void reduce_dim(const IndexKind& kind, const float* keys, int64_t row_dim, int64_t dim, float* out) {
  const int64_t n = kind.row_tokens;
  for (int64_t i = 0; i < kKvBlock / n; ++i) {
    const float* x = keys + i * n;
    float* to = out + i * row_dim;
    if (kind.reduce == IndexReduce::kMiddle) {
      *to = x[n / 2];
    } else if (kind.reduce == IndexReduce::kMean) {
      float sum = 0.0F;
      for (int64_t j = 0; j < n; ++j) sum += x[j];
      *to = sum / static_cast<float>(n);
    } else {
      to[0] = *std::max_element(x, x + n);
      to[dim] = *std::min_element(x, x + n);
    }
  }
}

}  // namespace

std::span<const IndexKind> index_kinds() { return kKinds; }

const IndexKind* find_index_kind(std::string_view name) {
  for (const IndexKind& kind : kKinds) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

uint64_t BlockIndex::part_bytes() const {
  if (has_planes()) return static_cast<uint64_t>(kernels::PlanePart::bytes(row_dim()));
  return key_part_bytes(dtype(), row_dim());
}

storage::RegionSpec BlockIndex::region() const {
  storage::RegionSpec spec;
  spec.kind = storage::RegionKind::kIndex;
  spec.name = std::string("index_") + kind_->name;
  spec.block_bytes = part_bytes() * static_cast<uint64_t>(layout_.n_kv_heads);
  spec.window = kind_->row_tokens;
  return spec;
}

Status BlockIndex::check() const {
  return KvLayout{layout_.n_kv_heads, row_dim(), row_dim(), dtype(), DType::kF16}.check();
}

void BlockIndex::make_rows(int64_t b, const std::byte* kv_block, storage::Region& index) const {
  const int64_t k_dim = layout_.k_dim;
  const int64_t dim = row_dim();
  const int64_t n_rows = rows_per_block();
  const int64_t first = b * n_rows;
  std::byte* to = index.block(first / kKvBlock);
  float keys[kKvBlock * kernels::kMaxHeadDim];
  float rows[kKvBlock * kernels::kMaxHeadDim];  // with bounds there are at most half as many
  for (int64_t head = 0; head < layout_.n_kv_heads; ++head) {
    decode_keys(layout_, kv_block + static_cast<uint64_t>(head) * layout_.head_bytes(), b, keys);
    turn_columns_back(rotary_, b * kKvBlock, keys);
    for (int64_t d = 0; d < k_dim; ++d) {
      reduce_dim(*kind_, keys + d * kKvBlock, dim, k_dim, rows + d);
    }
    std::byte* part = to + static_cast<uint64_t>(head) * part_bytes();
    if (has_planes()) {
      encode_planes(rows, dim, part);
      continue;
    }
    const auto encode = kernels::active().attention.encode_k[kv_index(dtype())];
    for (int64_t i = 0; i < n_rows; ++i) encode(rows + i * dim, dim, (first + i) % kKvBlock, part);
  }
}

void BlockIndex::read_rows(int64_t b, int64_t kv_head, const storage::Region& index, float* rows) const {
  const int64_t n_rows = rows_per_block();
  const int64_t first = b * n_rows;
  const std::byte* part = index.block(first / kKvBlock) + static_cast<uint64_t>(kv_head) * part_bytes();
  if (has_planes()) return decode_planes(part, row_dim(), rows);
  const KvLayout layout{1, row_dim(), row_dim(), dtype(), DType::kF16};
  std::vector<float> keys(static_cast<size_t>(row_dim() * kKvBlock));
  decode_keys(layout, part, 1, keys.data());
  for (int64_t i = 0; i < n_rows; ++i) {
    for (int64_t d = 0; d < row_dim(); ++d)
      rows[i * row_dim() + d] = keys[static_cast<size_t>(d * kKvBlock + (first + i) % kKvBlock)];
  }
}

uint64_t BlockIndex::queries_bytes(int64_t n) const {
  const int64_t dim = row_dim();
  return Workspace::bytes_of<float>(n * dim) + Workspace::bytes_of<int16_t>(n * dim) + Workspace::bytes_of<float>(n) +
         Workspace::bytes_of<uint8_t>(n * dim * 4) + Workspace::bytes_of<int16_t>(n) + Workspace::bytes_of<float>(n);
}

IndexQueries BlockIndex::take_queries(int64_t n, Workspace& scratch) const {
  const int64_t dim = row_dim();
  IndexQueries out;
  out.n = n;
  out.q = scratch.take<float>(n * dim).data();
  if (!has_planes()) {
    out.codes = scratch.take<int16_t>(n * dim).data();
    out.scales = scratch.take<float>(n).data();
    return out;
  }
  out.tables = {scratch.take<uint8_t>(n * dim * 4).data(), scratch.take<int16_t>(n).data(),
                scratch.take<float>(n).data()};
  return out;
}

IndexQueries BlockIndex::part_of(const IndexQueries& queries, int64_t first, int64_t n) const {
  const int64_t dim = row_dim();
  IndexQueries out;
  out.n = n;
  out.q = queries.q + first * dim;
  if (has_planes()) {
    const PlaneTables& t = queries.tables;
    out.tables = {t.tables + first * dim * 4, t.centres + first, t.factors + first};
  } else {
    out.codes = queries.codes + first * dim;
    out.scales = queries.scales + first;
  }
  return out;
}

void BlockIndex::turn_queries(const float* q, int64_t pos, float scale, const IndexQueries& out) const {
  const int64_t k_dim = layout_.k_dim;
  const int64_t dim = row_dim();
  for (int64_t row = 0; row < out.n; ++row) {
    float* to = out.q + row * dim;
    for (int64_t d = 0; d < k_dim; ++d) to[d] = q[row * k_dim + d] * scale;
    turn(rotary_, kIndexQueryPlace - pos, to, 1, k_dim);
    if (kind_->reduce == IndexReduce::kBounds) {
      // Each dimension's largest product is with the upper bound where the query is positive, else with the lower.
      for (int64_t d = 0; d < k_dim; ++d) {
        to[k_dim + d] = std::min(to[d], 0.0F);
        to[d] = std::max(to[d], 0.0F);
      }
    }
    if (has_planes()) rotate(to, dim);
  }
  if (has_planes()) {
    make_plane_tables(out.q, out.n, dim, out.tables);
  } else if (is_quantised(dtype())) {
    kernels::active().attention.quantize_q(out.q, out.n, dim, out.codes, out.scales);
  }
}

int64_t BlockIndex::score_floats(int64_t n) const {
  return has_planes() ? 0 : round_up(n * kKvBlock, 16) + row_dim() * kKvBlock;
}

// Block by block, so that memory is read as it lies.
void BlockIndex::score_planes(const IndexQueries& queries, const Heads& heads, const storage::Region& index,
                              const Blocks& blocks, float* scores, int64_t stride) const {
  kernels::PlaneTile tile;
  tile.rows = queries.n / heads.n;
  tile.dim = row_dim();
  tile.shift = plane_shift(tile.dim);
  const auto kernel = kernels::active().attention.plane_scores;
  const auto bytes = static_cast<int64_t>(part_bytes());
  for (int64_t i = 0; i < blocks.n; ++i) {
    const std::byte* block = index.block(blocks.at(i)) + heads.first * bytes;
    const std::byte* next = index.block(blocks.at(std::min(i + 1, blocks.n - 1))) + heads.first * bytes;
    for (int64_t head = 0; head < heads.n; ++head) {
      const IndexQueries mine = part_of(queries, head * tile.rows, tile.rows);
      tile.q = mine.q;
      tile.tables = mine.tables.tables;
      tile.centres = mine.tables.centres;
      tile.factors = mine.tables.factors;
      tile.after = next - block;  // the same head's
      kernel(tile, block + head * bytes, scores + head * tile.rows * stride + i, stride);
    }
  }
}

void BlockIndex::score_blocks(const IndexQueries& queries, const Heads& heads, const storage::Region& index,
                              const Blocks& blocks, float* scores, int64_t stride, float* scratch) const {
  if (has_planes()) return score_planes(queries, heads, index, blocks, scores, stride);
  const int64_t n = queries.n / heads.n;
  for (int64_t head = 0; head < heads.n; ++head) {
    score_rows(part_of(queries, head * n, n), heads.first + head, index, blocks, scores + head * n * stride, stride,
               scratch);
  }
}

void BlockIndex::score(const IndexQueries& queries, const storage::Region& index, int64_t first, int64_t end,
                       float* scores, int64_t stride, float* scratch) const {
  score_blocks(queries, {0, layout_.n_kv_heads}, index, {first, end - first, nullptr}, scores, stride, scratch);
}

void BlockIndex::score_listed(const IndexQueries& queries, int64_t first_head, int64_t n_heads,
                              const storage::Region& index, std::span<const int32_t> listed, float* scores,
                              int64_t stride, float* scratch) const {
  const Blocks blocks{0, static_cast<int64_t>(listed.size()), listed.data()};
  score_blocks(queries, {first_head, n_heads}, index, blocks, scores, stride, scratch);
}

void BlockIndex::score_rows(const IndexQueries& queries, int64_t kv_head, const storage::Region& index,
                            const Blocks& blocks, float* scores, int64_t stride, float* scratch) const {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  const int64_t dim = row_dim();
  const auto max_value = kernels::active().ops.max_value;
  const int64_t type = kv_index(dtype());
  kernels::AttnTile tile;
  tile.rows = queries.n;
  tile.k_dim = dim;
  tile.q = queries.q;
  tile.q_codes = queries.codes;
  tile.q_scales = queries.scales;
  tile.s = scratch;
  auto* keys = reinterpret_cast<std::byte*>(scratch + round_up(queries.n * kKvBlock, 16));
  const int64_t per_block = rows_per_block();
  const int64_t blocks_together = kKvBlock / per_block;  // of the cache, in one of the index
  const auto part_at = [&](int64_t group) {
    return index.block(group) + static_cast<uint64_t>(kv_head) * part_bytes();
  };
  for (int64_t at = 0; at < blocks.n;) {
    const int64_t group = blocks.at(at) / blocks_together;
    int64_t end = at + 1;
    while (end < blocks.n && blocks.at(end) / blocks_together == group) ++end;
    const std::byte* part = part_at(group);
    tile.after_k = end < blocks.n ? part_at(blocks.at(end) / blocks_together) - part : 0;
    if (queries.n <= kDirectRows) {
      kernel.scores[type](tile, part);
    } else {
      kernel.k_tile[type](part, dim, keys);
      kernel.scores_of_tile[type](tile, keys);
    }
    for (int64_t row = 0; row < queries.n; ++row) {
      const float* s = tile.s + row * kKvBlock;
      for (int64_t i = at; i < end; ++i) {
        const int64_t in_group = blocks.at(i) - group * blocks_together;
        scores[row * stride + i] = max_value(s + in_group * per_block, per_block);
      }
    }
    at = end;
  }
}

}  // namespace lcrun::attention
