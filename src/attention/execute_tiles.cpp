// The executor of plans that differ from tile to tile: streams and selections.
//
// Tasks are (tile of queries, KV head). A query row meets the segments of its tile in order, with a partial for each
// span of each segment, as dense attention has one for each span: a plan of everything gives the bits of dense
// attention. Tiles go by in groups whose blocks a paged region can hold together, and those of the next group are
// fetched meanwhile.
#include <algorithm>
#include <array>

#include "src/attention/plan.hpp"
#include "src/attention/remainder.hpp"
#include "src/attention/tile.hpp"
#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;
using storage::BlockRange;

constexpr size_t kMostRanges = 1024;  // of a group of tiles, before they are merged

struct Needs {
  int64_t rows;           // of a task
  int64_t worker_floats;  // scratch of a tile
  int64_t total_floats;   // and its partial

  Needs(const AttnParams& params, const Geometry& geometry, int64_t n_queries)
      : rows(std::min(geometry.tile_tokens, n_queries) * geometry.group),
        worker_floats(TileScratch{}.lay_out(nullptr, geometry, params.layout.k_dim, rows)),
        total_floats(round_up(AttnPartial::floats(rows, geometry.o_stride), 16)) {}
  int64_t floats() const { return worker_floats + total_floats; }
};

// The blocks of some tiles, ascending and apart.
class BlockSet {
 public:
  // False, and unchanged, if the set would get larger than the limits.
  bool add(const PlanTile& tile, int64_t most_blocks) {
    BlockSet grown = *this;
    for (const Segment& segment : tile.segments) {
      if (segment.first_row >= segment.end_row) continue;
      if (grown.n_ == kMostRanges) return false;
      grown.ranges_[grown.n_++] = {segment.first_row / kKvBlock, ceil_div(segment.end_row, kKvBlock)};
    }
    if (grown.merge() > most_blocks) return false;
    *this = grown;
    return true;
  }
  std::span<const BlockRange> ranges() const { return std::span(ranges_).first(n_); }

 private:
  int64_t merge() {
    std::sort(ranges_.begin(), ranges_.begin() + static_cast<int64_t>(n_),
              [](const BlockRange& a, const BlockRange& b) { return a.first < b.first; });
    size_t n = 0;
    int64_t blocks = 0;
    for (size_t i = 0; i < n_; ++i) {
      if (n > 0 && ranges_[i].first <= ranges_[n - 1].end) {
        ranges_[n - 1].end = std::max(ranges_[n - 1].end, ranges_[i].end);
      } else {
        ranges_[n++] = ranges_[i];
      }
    }
    n_ = n;
    for (const BlockRange& range : ranges()) blocks += range.end - range.first;
    return blocks;
  }
  std::array<BlockRange, kMostRanges> ranges_;
  size_t n_ = 0;
};

class TileExecutor {
 public:
  TileExecutor(const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q, MatView o,
               const RemainderTerm* rest)
      : params_(params),
        kv_(kv),
        pos0_(pos0),
        q_(q),
        rest_(rest),
        worker_(params, kv, pos0, q, o),
        needs_(params, worker_.geometry(), q.rows) {}

  Status run(std::span<const PlanTile> tiles, Workspace& scratch, int n_threads);

 private:
  // Parts of a tile that are computed together, of one KV head.
  int64_t parts_of(const PlanTile& tile) const {
    const int64_t heads = tile.kv_head < 0 ? params_.layout.n_kv_heads : 1;
    return ceil_div(tile.count, worker_.geometry().tile_tokens) * heads;
  }
  // How many of the first tiles can be held together; 0 if not even one.
  size_t group(std::span<const PlanTile> tiles, BlockSet& blocks) const;
  void compute(std::span<const PlanTile> tiles, std::span<float> buffers, int n_threads) const;
  void run_part(const PlanTile& tile, int64_t part, float* memory) const;

  const AttnParams& params_;
  storage::Region& kv_;
  const int64_t pos0_;
  const MatView q_;
  const RemainderTerm* rest_;
  const TileWorker worker_;
  const Needs needs_;
};

size_t TileExecutor::group(std::span<const PlanTile> tiles, BlockSet& blocks) const {
  if (!kv_.pages()) return tiles.size();
  size_t n = 0;
  while (n < tiles.size() && blocks.add(tiles[n], kv_.wave_blocks())) ++n;
  return n;
}

void TileExecutor::run_part(const PlanTile& tile, int64_t part, float* memory) const {
  const Geometry& geometry = worker_.geometry();
  const int64_t heads = tile.kv_head < 0 ? params_.layout.n_kv_heads : 1;
  const int64_t kv_head = tile.kv_head < 0 ? part % heads : tile.kv_head;
  const int64_t first = tile.first + part / heads * geometry.tile_tokens;
  const int64_t count = std::min(geometry.tile_tokens, tile.first + tile.count - first);
  TileScratch scratch;
  scratch.lay_out(memory, geometry, params_.layout.k_dim, needs_.rows);
  const AttnPartial total = AttnPartial::over(memory + needs_.worker_floats, count * geometry.group, geometry.o_stride);
  const AttnPartial partial = AttnPartial::over(scratch.span, count * geometry.group, geometry.o_stride);
  init(total);
  const int64_t low = worker_.floor_of(pos0_ + first);
  const int64_t high = pos0_ + first + count;
  bool has_queries = false;
  int64_t shift = 0;
  for (const Segment& segment : tile.segments) {
    const Segment rows{std::max(segment.first_row, low), std::min(segment.end_row, high)};
    if (rows.first_row >= rows.end_row) continue;
    if (!has_queries || segment.shift != shift) worker_.gather(kv_head, first, count, segment.shift, scratch);
    has_queries = true;
    shift = segment.shift;
    for (int64_t span = rows.first_row / kSpanRows; span * kSpanRows < rows.end_row; ++span) {
      init(partial);
      worker_.visit(kv_head, first, count,
                    {std::max(rows.first_row, span * kSpanRows), std::min(rows.end_row, (span + 1) * kSpanRows)},
                    scratch, partial, rows.end_row);
      merge(total, partial);
    }
  }
  if (rest_ != nullptr) {
    const MatView queries{q_.row(first), count, q_.cols, q_.stride};
    rest_->add({kv_head, pos0_ + first, count, queries, tile.segments}, scratch, total);
  }
  worker_.scatter(kv_head, first, count, total);
}

void TileExecutor::compute(std::span<const PlanTile> tiles, std::span<float> buffers, int n_threads) const {
  int64_t n_tasks = 0;
  for (const PlanTile& tile : tiles) n_tasks += parts_of(tile);
  parallel_for(n_threads, n_tasks, [&](int64_t task, int thread) {
    size_t i = 0;
    for (int64_t parts = parts_of(tiles[0]); task >= parts; parts = parts_of(tiles[++i])) task -= parts;
    run_part(tiles[i], task, buffers.data() + thread * needs_.floats());
  });
}

Status TileExecutor::run(std::span<const PlanTile> tiles, Workspace& scratch, int n_threads) {
  int64_t work = 0;
  const int64_t dims = params_.layout.k_dim + params_.layout.v_dim;
  for (const PlanTile& tile : tiles) {
    const int64_t heads = tile.kv_head < 0 ? params_.n_heads : worker_.geometry().group;
    for (const Segment& segment : tile.segments) {
      work += (segment.end_row - segment.first_row) * tile.count * heads * dims;
    }
  }
  const int workers = work < kSerialWork ? 1 : std::max(1, n_threads);
  const std::span<float> buffers = scratch.take<float>(needs_.floats() * workers);
  BlockSet held;
  size_t n = group(tiles, held);
  while (!tiles.empty()) {
    if (n == 0) {
      return make_error(Code::kNoMemory, "a query reads more blocks than the {} that the memory cap lets it hold",
                        kv_.wave_blocks());
    }
    BlockSet next;
    const size_t n_next = group(tiles.subspan(n), next);
    // Asked for before this group is waited for: the disk always has something to do.
    kv_.prefetch(held.ranges());
    if (n < tiles.size()) kv_.prefetch(next.ranges());
    LCRUN_TRY(kv_.hold(held.ranges()));
    compute(tiles.first(n), buffers, workers);
    tiles = tiles.subspan(n);
    held = next;
    n = n_next;
  }
  return {};
}

}  // namespace

uint64_t tile_scratch_bytes(const AttnParams& params, int64_t n_queries, int n_threads) {
  const Needs needs(params, Geometry(params, params.layout), std::max<int64_t>(1, n_queries));
  return Workspace::bytes_of<float>(needs.floats() * std::max(1, n_threads));
}

Status execute(const AttnParams& params, storage::Region& kv, const TilePlan& plan, int64_t pos0, MatView q, MatView o,
               Workspace& scratch, int n_threads, const RemainderTerm* rest) {
  LCRUN_CHECK(params.n_heads % params.layout.n_kv_heads == 0);
  if (plan.tiles.empty()) return {};
  return TileExecutor(params, kv, pos0, q, o, rest).run(plan.tiles, scratch, n_threads);
}

}  // namespace lcrun::attention
