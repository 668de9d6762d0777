#include "src/attention/tile_choice.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "src/attention/block_index.hpp"
#include "src/attention/kv_block.hpp"
#include "src/attention/tile.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr int64_t kStride = 8;  // XAttention's S; of FlexPrefill's and MInference's samples
// Blocks that a worker scores at a time: their groups of 8 keys fill the 64 lanes of a tile.
constexpr int64_t kPartBlocks = 8;
constexpr double kMostApart = 0.1;  // FlexPrefill's tau
static_assert(kPartBlocks * kKvBlock / kStride == kKvBlock);

float log_sum(const float* x, int64_t n) {
  const kernels::OpSlots& ops = kernels::active().ops;
  const float top = ops.max_value(x, n);
  return top + static_cast<float>(std::log(ops.sum_exp(x, top, n)));
}

// What becomes of a tile's queries: rows of each KV head, [phases][samples or groups][group], then the means [group].
struct Rows {
  int64_t group;
  int64_t samples;  // of a query head
  int64_t phases;   // rows that are added up: places on an antidiagonal
  int64_t means;    // of a query head
  int64_t k_dim;

  Rows(const Reading& reading, const AttnParams& params, int64_t n)
      : group(params.n_heads / params.layout.n_kv_heads),
        samples(ceil_div(n, kStride)),
        phases(reading.choice == Choice::kAntidiagonal ? kStride : 1),
        means(reading.choice == Choice::kDivergence ? 1 : 0),
        k_dim(params.layout.k_dim) {}
  int64_t size() const { return (samples + means) * group; }
  int64_t floats() const { return phases * size() * k_dim; }
};

// One worker's memory.
struct Buffers {
  float* keys = nullptr;    // [k_dim, 64]
  float* lanes = nullptr;   // [phases, k_dim, 64]: keys of several blocks, place by place of their groups
  float* scores = nullptr;  // [rows, 64]
  float* sums = nullptr;    // [rows, 64]

  // Walks the layout; with `memory` null only counts. Returns the floats used.
  int64_t lay_out(float* memory, const Rows& rows) {
    int64_t used = 0;
    const auto place = [&](int64_t count) {
      float* at = memory == nullptr ? nullptr : memory + used;
      used += round_up(count, 16);
      return at;
    };
    keys = place(rows.k_dim * kKvBlock);
    lanes = place(rows.phases > 1 ? rows.phases * rows.k_dim * kKvBlock : 0);
    scores = place(rows.size() * kKvBlock);
    sums = place(rows.phases > 1 ? rows.size() * kKvBlock : 0);
    return used;
  }
};

class Scorer {
 public:
  Scorer(const FarBlocks& far, int n_threads)
      : far_(far),
        layout_(far.params.layout),
        rows_(far.reading, far.params, far.q.rows),
        n_far_(far.end - far.first),
        is_turned_(far.reading.positions.kind != Positions::kTrue),
        n_threads_(n_threads) {}

  Status run(std::span<float> shares, Workspace& scratch);

 private:
  void take_queries(int64_t head, float* out) const;
  void put_row(int64_t head, int64_t query, float factor, float* out) const;
  void score_samples(int64_t head, int64_t first, int64_t n, const Buffers& memory) const;
  void score_antidiagonals(int64_t head, int64_t first, int64_t n, const Buffers& memory) const;
  void load_keys(int64_t head, int64_t block, float* keys) const;
  void multiply(int64_t head, int64_t phase, const float* keys, float* scores) const;
  void finish(int64_t head, float* shares) const;
  float* logs_of(int64_t head, int64_t row) const { return logs_.data() + (head * rows_.size() + row) * n_far_; }

  const FarBlocks& far_;
  const KvLayout& layout_;
  const Rows rows_;
  const int64_t n_far_;
  const bool is_turned_;
  const int n_threads_;
  std::span<float> queries_;  // [n_kv_heads, phases, rows, k_dim]
  std::span<float> logs_;     // [n_kv_heads, rows, far blocks]: what a row gives a block
};

// Adds a query's heads of a KV head to `group` rows.
void Scorer::put_row(int64_t head, int64_t query, float factor, float* out) const {
  const int64_t width = rows_.group * rows_.k_dim;
  kernels::active().ops.add_scaled(out, far_.q.row(query) + head * width, factor * far_.params.scale, width);
}

void Scorer::take_queries(int64_t head, float* out) const {
  const int64_t n = far_.q.rows, width = rows_.group * rows_.k_dim;
  std::fill_n(out, rows_.floats(), 0.0F);
  for (int64_t i = 0; i < rows_.samples; ++i) {
    if (rows_.phases == 1) {
      put_row(head, n - 1 - (rows_.samples - 1 - i) * kStride, 1.0F, out + i * width);
      continue;
    }
    // The mean of the products on an antidiagonal: where the tile ends within a group, of those that are there.
    const int64_t first = i * kStride, there = std::min(kStride, n - first);
    for (int64_t r = 0; r < kStride; ++r) {
      const int64_t place = kStride - 1 - r;
      if (place >= there) continue;
      put_row(head, first + place, 1.0F / static_cast<float>(there), out + (r * rows_.samples + i) * width);
    }
  }
  for (int64_t t = 0; rows_.means > 0 && t < n; ++t) {
    put_row(head, t, 1.0F / static_cast<float>(n), out + rows_.samples * width);
  }
  if (!is_turned_) return;
  turn(far_.params.rotary, kIndexQueryPlace - (far_.pos0 + n - 1), out, rows_.phases * rows_.size(), rows_.k_dim);
}

void Scorer::load_keys(int64_t head, int64_t block, float* keys) const {
  const std::byte* bytes = static_cast<const storage::Region&>(far_.keys).block(block);
  decode_keys(layout_, bytes + static_cast<uint64_t>(head) * layout_.head_bytes(), block, keys);
  if (is_turned_) turn_columns_back(far_.params.rotary, block * kKvBlock, keys);
}

// scores [rows, 64] of keys [k_dim, 64]
void Scorer::multiply(int64_t head, int64_t phase, const float* keys, float* scores) const {
  kernels::AttnTile tile;
  tile.rows = rows_.size();
  tile.k_dim = rows_.k_dim;
  tile.q = queries_.data() + (head * rows_.phases + phase) * rows_.size() * rows_.k_dim;
  tile.s = scores;
  kernels::active().attention.scores_of_tile[kv_index(DType::kF32)](tile, reinterpret_cast<const std::byte*>(keys));
}

// Some neighbouring blocks and one KV head.
void Scorer::score_samples(int64_t head, int64_t first, int64_t n, const Buffers& memory) const {
  const int64_t sampled = rows_.samples * rows_.group;
  for (int64_t b = first; b < first + n; ++b) {
    load_keys(head, b, memory.keys);
    multiply(head, 0, memory.keys, memory.scores);
    if (far_.params.soft_cap > 0) {
      kernels::active().ops.soft_cap(memory.scores, far_.params.soft_cap, sampled * kKvBlock);
    }
    for (int64_t row = 0; row < rows_.size(); ++row) {
      const float* s = memory.scores + row * kKvBlock;
      double sum = 0;  // a mean query meets the mean of the keys: that is the mean of its products
      for (int64_t i = 0; row >= sampled && i < kKvBlock; ++i) sum += static_cast<double>(s[i]);
      logs_of(head, row)[b - far_.first] = row < sampled ? log_sum(s, kKvBlock) : static_cast<float>(sum / kKvBlock);
    }
  }
}

void Scorer::score_antidiagonals(int64_t head, int64_t first, int64_t n, const Buffers& memory) const {
  constexpr int64_t kGroups = kKvBlock / kStride;
  const int64_t phase_floats = rows_.k_dim * kKvBlock;
  if (n < kPartBlocks) std::fill_n(memory.lanes, rows_.phases * phase_floats, 0.0F);
  for (int64_t b = 0; b < n; ++b) {
    load_keys(head, first + b, memory.keys);
    for (int64_t r = 0; r < kStride; ++r) {
      for (int64_t d = 0; d < rows_.k_dim; ++d) {
        float* out = memory.lanes + r * phase_floats + d * kKvBlock + b * kGroups;
        for (int64_t j = 0; j < kGroups; ++j) out[j] = memory.keys[d * kKvBlock + j * kStride + r];
      }
    }
  }
  std::fill_n(memory.sums, rows_.size() * kKvBlock, 0.0F);
  for (int64_t r = 0; r < kStride; ++r) {
    multiply(head, r, memory.lanes + r * phase_floats, memory.scores);
    kernels::active().ops.add_scaled(memory.sums, memory.scores, 1.0F, rows_.size() * kKvBlock);
  }
  for (int64_t row = 0; row < rows_.size(); ++row) {
    for (int64_t b = 0; b < n; ++b) {
      logs_of(head, row)[first + b - far_.first] = log_sum(memory.sums + row * kKvBlock + b * kGroups, kGroups);
    }
  }
}

// A query head's shares of what its rows give.
void Scorer::finish(int64_t head, float* shares) const {
  const int64_t kv_head = head / rows_.group, g = head % rows_.group;
  float total[kKvBlock / kStride];
  for (int64_t i = 0; i < rows_.samples; ++i) total[i] = log_sum(logs_of(kv_head, i * rows_.group + g), n_far_);
  const float* means = rows_.means > 0 ? logs_of(kv_head, rows_.samples * rows_.group + g) : nullptr;
  const float means_total = rows_.means > 0 ? log_sum(means, n_far_) : 0.0F;
  double apart = 0;
  for (int64_t b = 0; b < n_far_; ++b) {
    double share = 0;
    for (int64_t i = 0; i < rows_.samples; ++i) {
      share += std::exp(static_cast<double>(logs_of(kv_head, i * rows_.group + g)[b] - total[i]));
    }
    share /= static_cast<double>(rows_.samples);
    shares[b] = static_cast<float>(std::log(std::max(share, DBL_MIN)));
    if (rows_.means == 0) continue;
    // Jensen and Shannon's divergence; what has no share adds nothing.
    const double pooled = std::exp(static_cast<double>(means[b] - means_total)), middle = (share + pooled) / 2;
    if (share > 0) apart += share * std::log(share / middle) / 2;
    if (pooled > 0) apart += pooled * std::log(pooled / middle) / 2;
  }
  if (rows_.means == 0 || std::sqrt(std::max(apart, 0.0)) >= kMostApart) return;
  for (int64_t b = 0; b < n_far_; ++b) shares[b] = means[b] - means_total;
}

Status Scorer::run(std::span<float> shares, Workspace& scratch) {
  const int64_t n_kv_heads = layout_.n_kv_heads;
  queries_ = scratch.take<float>(n_kv_heads * rows_.floats());
  logs_ = scratch.take<float>(n_kv_heads * rows_.size() * n_far_);
  const int64_t floats = Buffers{}.lay_out(nullptr, rows_);
  const std::span<float> memory = scratch.take<float>(floats * n_threads_);
  parallel_for(n_threads_, n_kv_heads,
               [&](int64_t head, int) { take_queries(head, queries_.data() + head * rows_.floats()); });
  const int64_t wave = std::min(n_far_, far_.keys.wave_blocks());
  for (int64_t from = far_.first; from < far_.end; from += wave) {
    const storage::BlockRange range{from, std::min(far_.end, from + wave)};
    far_.keys.prefetch({&range, 1});
    LCRUN_TRY(far_.keys.hold({&range, 1}));
    const int64_t n_parts = ceil_div(range.end - range.first, kPartBlocks);
    parallel_for(n_threads_, n_parts * n_kv_heads, [&](int64_t task, int thread) {
      Buffers mine;
      mine.lay_out(memory.data() + thread * floats, rows_);
      const int64_t head = task / n_parts, first = range.first + task % n_parts * kPartBlocks;
      const int64_t n = std::min(kPartBlocks, range.end - first);
      rows_.phases == 1 ? score_samples(head, first, n, mine) : score_antidiagonals(head, first, n, mine);
    });
  }
  parallel_for(n_threads_, far_.params.n_heads,
               [&](int64_t head, int) { finish(head, shares.data() + head * n_far_); });
  return {};
}

}  // namespace

Status find_shares(const FarBlocks& far, std::span<float> shares, Workspace& scratch, int n_threads) {
  LCRUN_CHECK(far.q.rows <= kKvBlock && far.end * kKvBlock <= far.pos0);
  const size_t mark = scratch.mark();
  LCRUN_TRY(Scorer(far, n_threads).run(shares, scratch));
  scratch.release(mark);
  return {};
}

uint64_t find_shares_bytes(const Reading& reading, const AttnParams& params, int64_t n, int64_t far_blocks,
                           int n_threads) {
  const Rows rows(reading, params, std::min(n, kKvBlock));
  const int64_t n_kv_heads = params.layout.n_kv_heads;
  return Workspace::bytes_of<float>(n_kv_heads * rows.floats()) +
         Workspace::bytes_of<float>(n_kv_heads * rows.size() * far_blocks) +
         Workspace::bytes_of<float>(Buffers{}.lay_out(nullptr, rows) * std::max(1, n_threads));
}

}  // namespace lcrun::attention
