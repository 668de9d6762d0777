// The executor: runs a Plan over blocks in RAM with the active kernel table.
//
// A span is 4 blocks (256 keys) by absolute position. Each query row builds one partial per span, block by block
// in order, and merges span partials in order: that order is the same whoever computes a span, so a row's bits
// depend on its own query, its position and the keys alone.
// Spans go by in waves: the region holds a wave's blocks while workers read them, and fetches those of the next. How
// many spans a wave has changes nothing in the result.
//   prefill  tasks = (KV head, tile of queries): a block's keys and values are converted once for all query heads of
//            the group and all queries of the tile (some 64 rows), to floats or, if quantised, to 16-bit pairs
//   decode   tasks = (KV head, span), in short waves so that scratch does not grow with the context; the few rows read
//            the cache directly, in one pass over its bytes
// Thread rule: one driving thread; workers write only their own scratch and their own output rows.
#include <algorithm>
#include <array>

#include "src/attention/attention.hpp"
#include "src/attention/kv_block.hpp"
#include "src/attention/partial.hpp"
#include "src/attention/plan.hpp"
#include "src/attention/rotation.hpp"
#include "src/base/check.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::AttnTile;
using kernels::kKvBlock;

constexpr int64_t kSpanBlocks = 4;
constexpr int64_t kSpanRows = kSpanBlocks * kKvBlock;
constexpr int64_t kTileRows = 64;         // query heads times queries of a prefill tile
constexpr int64_t kFewQueries = 8;        // batches up to this split keys over threads instead of queries
constexpr int64_t kWaveSpans = 32;        // most spans of a wave in that case
constexpr size_t kMostRanges = 64;        // apart from each other in a wave of paged blocks, at most 128
constexpr int64_t kPartSpans = 8;         // of which one worker takes up to this many
constexpr int64_t kDirectRows = 8;        // up to this many rows read the cache without converting it first
constexpr int64_t kSerialWork = 1 << 18;  // multiply-adds below which waking threads costs more than it saves

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
int64_t ceil_div(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

struct Geometry {
  int64_t group;  // query heads per KV head
  int64_t o_stride;
  int64_t tile_tokens;  // queries of a prefill tile
  uint64_t head_bytes;
  uint64_t k_bytes;
  int64_t k_index;
  int64_t v_index;
  bool codes_q;  // keys are quantised: queries become codes

  bool has_shared;  // keys are cached less one that they share

  Geometry(const AttnParams& params, const KvLayout& layout)
      : group(params.n_heads / layout.n_kv_heads),
        o_stride(round_up(layout.v_dim, kernels::kValuePad)),
        tile_tokens(std::max<int64_t>(1, kTileRows / group)),
        head_bytes(layout.head_bytes()),
        k_bytes(key_part_bytes(layout.k_type, layout.k_dim)),
        k_index(kv_index(layout.k_type)),
        v_index(kv_index(layout.v_type)),
        codes_q(is_quantised(layout.k_type)),
        has_shared(layout.k_type == DType::kQ4_0) {}

  bool is_few(int64_t n_queries) const { return n_queries <= std::min(kFewQueries, tile_tokens); }
};

// One worker's memory for tiles of up to `rows` rows.
struct TileScratch {
  std::byte* k = nullptr;    // a tile of keys, at most floats [k_dim, 64]
  std::byte* v = nullptr;    // of values, at most floats [64, o_stride]
  float* q = nullptr;        // [rows, k_dim]
  int16_t* codes = nullptr;  // [rows, k_dim]
  float* scales = nullptr;   // [rows]
  float* shared = nullptr;   // [k_dim padded to 64]
  float* s = nullptr;        // [rows, 64]
  int16_t* w = nullptr;      // [rows, 64]
  float* decay = nullptr;    // [rows]
  float* gain = nullptr;     // [rows]
  float* span = nullptr;     // memory of AttnPartial [rows]
  int32_t* lo = nullptr;     // [rows]
  int32_t* hi = nullptr;     // [rows]

  // Walks the layout; with `memory` null only counts. Returns the floats used.
  int64_t lay_out(float* memory, const Geometry& geometry, int64_t k_dim, int64_t rows) {
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
};

struct Needs {
  int64_t rows;           // of a tile
  int64_t thread_floats;  // of one worker
  int64_t total_floats;   // of all tiles and heads; of a few queries: of their totals and the partials of a wave

  Needs(const AttnParams& params, const Geometry& geometry, int64_t n_queries)
      : rows(std::min(geometry.tile_tokens, n_queries) * geometry.group) {
    thread_floats = TileScratch{}.lay_out(nullptr, geometry, params.layout.k_dim, rows);
    const int64_t few_rows = std::min({kFewQueries, geometry.tile_tokens, n_queries}) * geometry.group;
    const int64_t few = (kWaveSpans + 1) * partial_floats(few_rows, geometry);
    const int64_t n_tiles = ceil_div(n_queries, geometry.tile_tokens);
    total_floats = params.layout.n_kv_heads * std::max(few, n_tiles * partial_floats(rows, geometry));
  }
  static int64_t partial_floats(int64_t rows, const Geometry& geometry) {
    return round_up(AttnPartial::floats(rows, geometry.o_stride), 16);
  }
};

class Executor {
 public:
  Executor(const AttnParams& params, storage::Region& kv, const Plan& plan, int64_t pos0, MatView q, MatView o)
      : params_(params),
        kv_(kv),
        plan_(plan),
        pos0_(pos0),
        q_(q),
        o_(o),
        geometry_(params, params.layout),
        open_geometry_(params, params.layout.open_form()) {}

  Status run(Workspace& scratch, int n_threads);

 private:
  // Spans [first, end), of them all.
  struct Wave {
    int64_t first;
    int64_t end;
    bool is_first;
    bool is_last;
  };
  // Memory of workers, and of partials that outlive a task.
  struct Buffers {
    std::span<float> workers;
    std::span<float> totals;
    int n_threads;
  };
  Status hold(const Wave& wave, const Wave& next);
  std::span<const storage::BlockRange> ranges_of(const Wave& wave);
  void run_tiles(const Wave& wave, const Buffers& buffers) const;
  void run_few(const Wave& wave, const Buffers& buffers) const;
  void gather(int64_t kv_head, int64_t first, int64_t count, const TileScratch& scratch) const;
  void scatter(int64_t kv_head, int64_t first, int64_t count, const AttnPartial& total) const;
  void visit_span(int64_t kv_head, int64_t first, int64_t count, int64_t span, const TileScratch& scratch,
                  const AttnPartial& partial, int64_t fetch_end) const;
  // Queries [first + skipped, first + count) of a tile that begins at `first`, and a block of 64 keys.
  struct Visit {
    int64_t kv_head;
    int64_t first;
    int64_t skipped;
    int64_t count;
    int64_t block;
    Segment rows;
    int64_t fetch_end;
  };
  void visit_block(const Visit& visit, const TileScratch& scratch, const AttnPartial& partial) const;
  void visit_form(const Visit& visit, bool is_open, const TileScratch& scratch, const AttnPartial& partial) const;
  // This head's part of a block.
  const std::byte* head_part(int64_t block, int64_t kv_head, bool is_open) const {
    if (is_open) return params_.open->block(block) + static_cast<uint64_t>(kv_head) * open_geometry_.head_bytes;
    return kv_.block(block) + static_cast<uint64_t>(kv_head) * geometry_.head_bytes;
  }
  void compute(const AttnTile& tile, const std::byte* head, int64_t sharing, const Geometry& geometry,
               const TileScratch& scratch) const;
  void add_shared(const AttnTile& tile, const std::byte* k_part, int64_t sharing, float* shared) const;

  // First cached row that the query at `pos` may see.
  int64_t floor_of(int64_t pos) const {
    return params_.window > 0 ? std::max<int64_t>(0, pos - params_.window + 1) : 0;
  }
  // Spans that queries [first, first + count) may meet.
  int64_t first_span(int64_t first) const {
    return std::max(plan_.segments.front().first_row, floor_of(pos0_ + first)) / kSpanRows;
  }
  int64_t end_span(int64_t first, int64_t count) const {
    return ceil_div(std::min(plan_.segments.back().end_row, pos0_ + first + count), kSpanRows);
  }

  const AttnParams& params_;
  storage::Region& kv_;
  const Plan& plan_;
  const int64_t pos0_;
  const MatView q_;
  const MatView o_;
  const Geometry geometry_;
  const Geometry open_geometry_;  // of a query's own block, where the layout is sealed
  const kernels::OpSlots& ops_ = kernels::active().ops;
  const kernels::AttentionSlots& kernel_ = kernels::active().attention;
  std::array<storage::BlockRange, kMostRanges> ranges_{};
};

// The plan's blocks in a wave, apart and ascending.
std::span<const storage::BlockRange> Executor::ranges_of(const Wave& wave) {
  size_t n = 0;
  for (const Segment& segment : plan_.segments) {
    storage::BlockRange range{std::max(segment.first_row / kKvBlock, wave.first * kSpanBlocks),
                              std::min(ceil_div(segment.end_row, kKvBlock), wave.end * kSpanBlocks)};
    if (n > 0) range.first = std::max(range.first, ranges_[n - 1].end);
    if (range.first >= range.end) continue;
    if (n > 0 && range.first == ranges_[n - 1].end) {
      ranges_[n - 1].end = range.end;
    } else {
      LCRUN_CHECK(n < ranges_.size());
      ranges_[n++] = range;
    }
  }
  return std::span(ranges_).first(n);
}

Status Executor::hold(const Wave& wave, const Wave& next) {
  if (!kv_.pages()) return {};
  // Asked for before this wave is waited for: the disk always has something to do.
  kv_.prefetch(ranges_of(wave));
  if (!wave.is_last) {
    kv_.prefetch(ranges_of(next));
  } else {
    kv_.prefetch_next_layer(ranges_of(next));  // the first wave: what this layer reads the next one is likely to
  }
  return kv_.hold(ranges_of(wave));
}

// Rows of a tile: query by query, the heads of the group within; scaled once here.
void Executor::gather(int64_t kv_head, int64_t first, int64_t count, const TileScratch& scratch) const {
  const int64_t k_dim = params_.layout.k_dim;
  const int64_t width = geometry_.group * k_dim;
  float* q = scratch.q;
  for (int64_t t = first; t < first + count; ++t) {
    const float* from = q_.row(t) + kv_head * width;
    for (int64_t i = 0; i < width; ++i) *q++ = from[i] * params_.scale;
  }
  if (is_rotated(params_.layout.k_type)) {
    for (int64_t row = 0; row < count * geometry_.group; ++row) rotate(scratch.q + row * k_dim, k_dim);
  }
  if (geometry_.codes_q) {
    kernel_.quantize_q(scratch.q, count * geometry_.group, k_dim, scratch.codes, scratch.scales);
  }
}

void Executor::scatter(int64_t kv_head, int64_t first, int64_t count, const AttnPartial& total) const {
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

// The first `sharing` keys were cached less one that they share: what it adds to their scores is the same for all.
void Executor::add_shared(const AttnTile& tile, const std::byte* k_part, int64_t sharing, float* shared) const {
  constexpr std::array<float, kKvBlock> kOnes = [] {
    std::array<float, kKvBlock> ones{};
    ones.fill(1.0F);
    return ones;
  }();
  const std::byte* halves = shared_key(k_part, tile.k_dim);
  kernel_.k_tile[kv_index(DType::kF16)](halves, ceil_div(tile.k_dim, kKvBlock), reinterpret_cast<std::byte*>(shared));
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float shift = ops_.dot(tile.q + row * tile.k_dim, shared, tile.k_dim);
    ops_.add_scaled(tile.s + row * kKvBlock, kOnes.data(), shift, sharing);
  }
}

void Executor::compute(const AttnTile& tile, const std::byte* head, int64_t sharing, const Geometry& geometry,
                       const TileScratch& scratch) const {
  const std::byte* k_part = head;
  const std::byte* v_part = head + geometry.k_bytes;
  const int64_t k_dim = params_.layout.k_dim;
  const int64_t v_dim = params_.layout.v_dim;
  const bool is_direct = tile.rows <= kDirectRows;
  const int64_t k_index = geometry.k_index;
  const int64_t v_index = geometry.v_index;
  if (is_direct || k_index == 0) {  // floats are tiles as they lie
    kernel_.scores[k_index](tile, k_part);
  } else {
    kernel_.k_tile[k_index](k_part, k_dim, scratch.k);
    kernel_.scores_of_tile[k_index](tile, scratch.k);
  }
  if (geometry.has_shared) add_shared(tile, k_part, sharing, scratch.shared);
  kernel_.softmax[v_index](tile);
  if (v_dim == geometry.o_stride && (is_direct || v_index == 0)) {
    kernel_.accumulate[v_index](tile, v_part);
  } else {
    kernel_.v_tile[v_index](v_part, v_dim, scratch.v);
    kernel_.accumulate_tile[v_index](tile, scratch.v);
  }
}

// Queries whose own block this is come first and read it open, if the layout is sealed.
void Executor::visit_block(const Visit& visit, const TileScratch& scratch, const AttnPartial& partial) const {
  Visit own = visit, later = visit;
  const int64_t end = (visit.block + 1) * kKvBlock - (pos0_ + visit.first);
  own.count = params_.open == nullptr ? 0 : std::clamp<int64_t>(end, 0, visit.count);
  later.skipped = own.count;
  if (own.count > 0) visit_form(own, true, scratch, partial);
  if (later.skipped < later.count) visit_form(later, false, scratch, partial);
}

// Some queries meet rows of one block in one form. The queries that see any of it are neighbours.
void Executor::visit_form(const Visit& visit, bool is_open, const TileScratch& scratch,
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
  const bool is_last = is_open || base + kKvBlock >= visit.fetch_end;
  tile.after_k = static_cast<int64_t>(geometry.k_bytes);
  tile.after_v = is_last ? 0 : head_part(visit.block + 1, visit.kv_head, false) - (part + geometry.k_bytes);
  compute(tile, part, sharing_keys(visit.block), geometry, scratch);
}

// Rows before fetch_end will be read by this worker next.
void Executor::visit_span(int64_t kv_head, int64_t first, int64_t count, int64_t span, const TileScratch& scratch,
                          const AttnPartial& partial, int64_t fetch_end) const {
  const int64_t low = std::max(span * kSpanRows, floor_of(pos0_ + first));
  const int64_t high = std::min((span + 1) * kSpanRows, pos0_ + first + count);
  for (const Segment& segment : plan_.segments) {
    const Segment rows{std::max(segment.first_row, low), std::min(segment.end_row, high)};
    for (int64_t block = rows.first_row / kKvBlock; block * kKvBlock < rows.end_row; ++block) {
      visit_block({kv_head, first, 0, count, block, rows, std::min(segment.end_row, fetch_end)}, scratch, partial);
    }
  }
}

void Executor::run_tiles(const Wave& wave, const Buffers& buffers) const {
  const Needs needs(params_, geometry_, q_.rows);
  const int64_t n_tiles = ceil_div(q_.rows, geometry_.tile_tokens);
  const int64_t n_kv_heads = params_.layout.n_kv_heads;
  const int64_t size = Needs::partial_floats(needs.rows, geometry_);
  parallel_for(buffers.n_threads, n_tiles * n_kv_heads, [&](int64_t task, int thread) {
    // Late tiles see the most keys: they go first, so that no thread is left with one at the end.
    const int64_t first = (n_tiles - 1 - task / n_kv_heads) * geometry_.tile_tokens;
    const int64_t kv_head = task % n_kv_heads;
    const int64_t count = std::min(geometry_.tile_tokens, q_.rows - first);
    const int64_t rows = count * geometry_.group;
    const int64_t from = std::max(wave.first, first_span(first));
    const int64_t to = std::min(wave.end, end_span(first, count));
    const AttnPartial total = AttnPartial::over(buffers.totals.data() + task * size, rows, geometry_.o_stride);
    if (wave.is_first) init(total);
    if (from < to) {
      TileScratch scratch;
      scratch.lay_out(buffers.workers.data() + thread * needs.thread_floats, geometry_, params_.layout.k_dim,
                      needs.rows);
      const AttnPartial part = AttnPartial::over(scratch.span, rows, geometry_.o_stride);
      gather(kv_head, first, count, scratch);
      for (int64_t span = from; span < to; ++span) {
        init(part);
        visit_span(kv_head, first, count, span, scratch, part, std::min(to * kSpanRows, pos0_ + first + count));
        merge(total, part);
      }
    }
    if (wave.is_last) scatter(kv_head, first, count, total);
  });
}

void Executor::run_few(const Wave& wave, const Buffers& buffers) const {
  const Needs needs(params_, geometry_, q_.rows);
  const int64_t n_kv_heads = params_.layout.n_kv_heads;
  const int64_t count = q_.rows;
  const int64_t size = Needs::partial_floats(needs.rows, geometry_);
  const auto partial_at = [&](int64_t kv_head, int64_t slot) {
    return AttnPartial::over(buffers.totals.data() + (kv_head * (kWaveSpans + 1) + slot) * size, needs.rows,
                             geometry_.o_stride);
  };
  for (int64_t head = 0; wave.is_first && head < n_kv_heads; ++head) init(partial_at(head, kWaveSpans));
  const int64_t n_spans = wave.end - wave.first;
  // Neighbouring spans go to one worker, so that it can fetch ahead, in at least four parts for each thread.
  const int64_t part = std::clamp<int64_t>(n_spans * n_kv_heads / (4 * buffers.n_threads), 1, kPartSpans);
  const int64_t n_parts = ceil_div(n_spans, part);
  parallel_for(buffers.n_threads, n_parts * n_kv_heads, [&](int64_t task, int thread) {
    const int64_t kv_head = task / n_parts;
    const int64_t first_slot = task % n_parts * part;
    const int64_t end_slot = std::min(first_slot + part, n_spans);
    TileScratch scratch;
    scratch.lay_out(buffers.workers.data() + thread * needs.thread_floats, geometry_, params_.layout.k_dim, needs.rows);
    gather(kv_head, 0, count, scratch);
    for (int64_t slot = first_slot; slot < end_slot; ++slot) {
      const AttnPartial partial = partial_at(kv_head, slot);
      init(partial);
      visit_span(kv_head, 0, count, wave.first + slot, scratch, partial,
                 std::min((wave.first + end_slot) * kSpanRows, pos0_ + count));
    }
  });
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    for (int64_t slot = 0; slot < n_spans; ++slot) merge(partial_at(head, kWaveSpans), partial_at(head, slot));
    if (wave.is_last) scatter(head, 0, count, partial_at(head, kWaveSpans));
  }
}

Status Executor::run(Workspace& scratch, int n_threads) {
  const Needs needs(params_, geometry_, q_.rows);
  int64_t keys = 0;
  for (const Segment& segment : plan_.segments) keys += segment.end_row - segment.first_row;
  const int64_t work = keys * q_.rows * params_.n_heads * (params_.layout.k_dim + params_.layout.v_dim);
  const int workers = work < kSerialWork ? 1 : std::max(1, n_threads);
  const Buffers buffers{scratch.take<float>(needs.thread_floats * workers), scratch.take<float>(needs.total_floats),
                        workers};
  const int64_t begin = first_span(0);
  const int64_t end = end_span(0, q_.rows);
  const bool is_few = geometry_.is_few(q_.rows);
  const int64_t step = std::min(is_few ? kWaveSpans : end - begin, kv_.wave_blocks() / kSpanBlocks);
  const auto wave_at = [&](int64_t first) {
    return Wave{first, std::min(first + step, end), first == begin, first + step >= end};
  };
  for (int64_t first = begin; first < end; first += step) {
    const Wave wave = wave_at(first);
    LCRUN_TRY(hold(wave, wave_at(wave.is_last ? begin : wave.end)));
    if (is_few) {
      run_few(wave, buffers);
    } else {
      run_tiles(wave, buffers);
    }
  }
  return {};
}

}  // namespace

Segment dense_segment(const AttnParams& params, int64_t pos0, int64_t n) {
  const int64_t first = params.window > 0 ? std::max<int64_t>(0, pos0 - params.window + 1) : 0;
  return {first, pos0 + n};
}

uint64_t attend_scratch_bytes(const AttnParams& params, int64_t n_queries, int n_threads) {
  const Geometry geometry(params, params.layout);
  const Needs needs(params, geometry, std::max<int64_t>(1, n_queries));
  const int64_t workers = std::max(1, n_threads);
  return Workspace::bytes_of<float>(needs.thread_floats * workers) + Workspace::bytes_of<float>(needs.total_floats);
}

Status execute(const AttnParams& params, storage::Region& kv, const Plan& plan, int64_t pos0, MatView q, MatView o,
               Workspace& scratch, int n_threads) {
  LCRUN_CHECK(params.n_heads % params.layout.n_kv_heads == 0);
  LCRUN_CHECK(!plan.segments.empty() && plan.segments.front().first_row >= kv.first_row());
  if (q.rows == 0) return {};
  return Executor(params, kv, plan, pos0, q, o).run(scratch, n_threads);
}

Status attend(const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q, MatView o, Workspace& scratch,
              int n_threads) {
  const Segment all = dense_segment(params, pos0, q.rows);
  return execute(params, kv, Plan{{&all, 1}}, pos0, q, o, scratch, n_threads);
}

}  // namespace lcrun::attention
