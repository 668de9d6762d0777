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
// Spans that lie wholly between two segments are passed over: a plan may leave out most of a long text.
// Thread rule: one driving thread; workers write only their own scratch and their own output rows.
#include <algorithm>
#include <array>

#include "src/attention/attention.hpp"
#include "src/attention/partial.hpp"
#include "src/attention/plan.hpp"
#include "src/attention/tile.hpp"
#include "src/base/check.hpp"
#include "src/base/parallel.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr int64_t kFewQueries = 8;           // batches up to this split keys over threads instead of queries
constexpr int64_t kWaveSpans = 32;           // most spans of a wave in that case
constexpr size_t kMostRanges = 64;           // apart from each other in a wave of paged blocks, at most 128
constexpr int64_t kPartSpans = 8;            // of which one worker takes up to this many
constexpr int64_t kNotGathered = INT64_MIN;  // no shift

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
        worker_(params, kv, pos0, q, o),
        geometry_(worker_.geometry()) {}

  Status run(Workspace& scratch, int n_threads);

 private:
  // Spans [first, end) of those that are met, counted one behind the other.
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
  // Some neighbouring queries on their way through spans.
  struct Rows {
    int64_t kv_head;
    int64_t first;
    int64_t count;
    int64_t shift = kNotGathered;  // for which the scratch has them
  };
  void visit_span(Rows& rows, int64_t span, const TileScratch& scratch, const AttnPartial& partial,
                  int64_t fetch_end) const;

  // Spans that queries [first, first + count) may meet.
  int64_t first_span(int64_t first) const {
    return std::max(plan_.segments.front().first_row, worker_.floor_of(pos0_ + first)) / kSpanRows;
  }
  int64_t end_span(int64_t first, int64_t count) const {
    return ceil_div(std::min(plan_.segments.back().end_row, pos0_ + first + count), kSpanRows);
  }
  // The widest gap of the plan, in whole spans, is not counted.
  void find_gap();
  int64_t span_at(int64_t i) const { return i < gap_first_ ? i : i + gap_spans_; }
  int64_t index_of(int64_t span) const { return span < gap_first_ ? span : std::max(gap_first_, span - gap_spans_); }

  const AttnParams& params_;
  storage::Region& kv_;
  const Plan& plan_;
  const int64_t pos0_;
  const MatView q_;
  const TileWorker worker_;
  const Geometry& geometry_;
  int64_t gap_first_ = INT64_MAX;
  int64_t gap_spans_ = 0;
  std::array<storage::BlockRange, kMostRanges> ranges_{};
};

void Executor::find_gap() {
  for (size_t i = 1; i < plan_.segments.size(); ++i) {
    const int64_t first = ceil_div(plan_.segments[i - 1].end_row, kSpanRows);
    const int64_t spans = plan_.segments[i].first_row / kSpanRows - first;
    if (spans <= gap_spans_) continue;
    gap_first_ = first;
    gap_spans_ = spans;
  }
}

// The plan's blocks in a wave, apart and ascending.
std::span<const storage::BlockRange> Executor::ranges_of(const Wave& wave) {
  size_t n = 0;
  for (const Segment& segment : plan_.segments) {
    storage::BlockRange range{std::max(segment.first_row / kKvBlock, span_at(wave.first) * kSpanBlocks),
                              std::min(ceil_div(segment.end_row, kKvBlock), (span_at(wave.end - 1) + 1) * kSpanBlocks)};
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

// Rows before fetch_end will be read by this worker next.
void Executor::visit_span(Rows& rows, int64_t span, const TileScratch& scratch, const AttnPartial& partial,
                          int64_t fetch_end) const {
  const int64_t low = std::max(span * kSpanRows, worker_.floor_of(pos0_ + rows.first));
  const int64_t high = std::min((span + 1) * kSpanRows, pos0_ + rows.first + rows.count);
  for (const Segment& segment : plan_.segments) {
    const Segment met{std::max(segment.first_row, low), std::min(segment.end_row, high)};
    if (met.first_row >= met.end_row) continue;
    if (segment.shift != rows.shift) worker_.gather(rows.kv_head, rows.first, rows.count, segment.shift, scratch);
    rows.shift = segment.shift;
    worker_.visit(rows.kv_head, rows.first, rows.count, met, scratch, partial, std::min(segment.end_row, fetch_end));
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
    const int64_t from = std::max(wave.first, index_of(first_span(first)));
    const int64_t to = std::min(wave.end, index_of(end_span(first, count)));
    const AttnPartial total = AttnPartial::over(buffers.totals.data() + task * size, rows, geometry_.o_stride);
    if (wave.is_first) init(total);
    if (from < to) {
      TileScratch scratch;
      scratch.lay_out(buffers.workers.data() + thread * needs.thread_floats, geometry_, params_.layout.k_dim,
                      needs.rows);
      const AttnPartial part = AttnPartial::over(scratch.span, rows, geometry_.o_stride);
      Rows queries{kv_head, first, count};
      const int64_t fetch_end = std::min((span_at(to - 1) + 1) * kSpanRows, pos0_ + first + count);
      for (int64_t i = from; i < to; ++i) {
        init(part);
        visit_span(queries, span_at(i), scratch, part, fetch_end);
        merge(total, part);
      }
    }
    if (wave.is_last) worker_.scatter(kv_head, first, count, total);
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
    Rows queries{kv_head, 0, count};
    const int64_t fetch_end = std::min((span_at(wave.first + end_slot - 1) + 1) * kSpanRows, pos0_ + count);
    for (int64_t slot = first_slot; slot < end_slot; ++slot) {
      const AttnPartial partial = partial_at(kv_head, slot);
      init(partial);
      visit_span(queries, span_at(wave.first + slot), scratch, partial, fetch_end);
    }
  });
  for (int64_t head = 0; head < n_kv_heads; ++head) {
    for (int64_t slot = 0; slot < n_spans; ++slot) merge(partial_at(head, kWaveSpans), partial_at(head, slot));
    if (wave.is_last) worker_.scatter(head, 0, count, partial_at(head, kWaveSpans));
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
  find_gap();
  const int64_t begin = index_of(first_span(0));
  const int64_t end = index_of(end_span(0, q_.rows));
  const bool is_few = q_.rows <= std::min(kFewQueries, geometry_.tile_tokens);
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
