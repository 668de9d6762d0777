#include "src/attention/selector.hpp"

#include <algorithm>
#include <cmath>

#include "src/attention/cached_keys.hpp"
#include "src/attention/query_tiles.hpp"
#include "src/attention/strips.hpp"
#include "src/attention/tile.hpp"
#include "src/attention/tile_choice.hpp"
#include "src/base/check.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr int64_t kChunkBlocks = 128;  // of the cache, that a worker scores at a time
constexpr float kNone = -3e38F;

// Blocks by share, the largest first.
struct Candidate {
  float share;
  int32_t block;
};
bool is_better(const Candidate& a, const Candidate& b) {
  return a.share > b.share || (a.share == b.share && a.block < b.block);
}

// Puts a candidate in its place among the best `most`.
void offer(std::span<Candidate> best, size_t& n, size_t most, const Candidate& candidate) {
  if (n == most && !is_better(candidate, best[n - 1])) return;
  if (n < most) ++n;
  size_t at = n - 1;
  for (; at > 0 && is_better(candidate, best[at - 1]); --at) best[at] = best[at - 1];
  best[at] = candidate;
}

// A selection under way.
class Selection {
 public:
  Selection(const Reading& reading, const IndexOfLayer& index, const AttnParams& params, int64_t pos0, MatView q,
            int n_threads, std::span<const int32_t> listed = {})
      : reading_(reading),
        index_(index),
        params_(params),
        pos0_(pos0),
        q_(q),
        n_threads_(n_threads),
        listed_(listed),
        n_kv_heads_(params.layout.n_kv_heads),
        group_(params.n_heads / n_kv_heads_),
        n_choices_(reading.is_by_tile() ? 1 : q.rows),
        head_rows_(n_choices_ * group_),
        first_(std::max(reading.sinks, reading.gone_until) / kKvBlock),
        end_(listed.empty() ? std::max(first_, reading.window_begin(pos0 + q.rows - 1) / kKvBlock)
                            : first_ + static_cast<int64_t>(listed.size()) / scopes_of(reading, params)),
        n_chunks_(ceil_div(end_ - first_, kChunkBlocks)) {}

  // Gives take(tile, blocks) the blocks of each tile, ascending.
  template <class Take>
  Status choose_for_tiles(Workspace& scratch, SelectionExtras& extras, const Take& take);
  // The best `most` blocks of each tile, or all that it has, one tile behind the other.  // lists [n_tiles * most]
  void shortlist(int64_t most, std::span<int32_t> lists, Workspace& scratch) const;
  int64_t n_far(int64_t query) const { return end_of(query) - first_; }

 private:
  int64_t far_end(int64_t query) const { return std::max(first_, reading_.window_begin(pos0_ + query) / kKvBlock); }
  int64_t end_of(int64_t query) const { return listed_.empty() ? far_end(query) : end_; }
  // A list's blocks count one behind the other from first_ on: which one that is for a tile.
  int32_t block_of(int64_t tile, int32_t place) const {
    if (listed_.empty()) return place;
    return listed_[static_cast<size_t>(tile % n_scopes() * (end_ - first_) + place - first_)];
  }
  int64_t n_scopes() const { return scopes_of(reading_, params_); }
  void turn_queries(const IndexQueries& queries, Workspace& scratch) const;
  void turn_mean(int64_t head, std::span<float> memory, const IndexQueries& out) const;
  void score(const IndexQueries& queries, std::span<float> scores, Workspace& scratch) const;
  Status score_by_strips(std::span<float> scores, Workspace& scratch, SelectionExtras& extras) const;
  Status score_far(std::span<float> scores, std::span<float> totals, IndexQueries& queries, Workspace& scratch,
                   SelectionExtras& extras) const;
  void normalise(std::span<float> scores, std::span<float> totals) const;
  void choose(std::span<float> scores, std::span<Candidate> best, std::span<int32_t> counts) const;
  // Scores of all far blocks, and what was taken off them.
  struct Scored {
    const IndexQueries& queries;
    std::span<const float> scores;
    std::span<const float> totals;
  };
  Status best_first(const Scored& scored, int64_t tile, std::span<Candidate> best, size_t& found, Workspace& scratch,
                    SelectionExtras& extras) const;
  Status look_at(const Scored& scored, int64_t block, int64_t head, int64_t query, float& share,
                 storage::Region& kv) const;
  // body(row) for the rows of scores of a query and some KV heads.
  template <class Body>
  void for_rows_of(int64_t query, int64_t first_head, int64_t heads, const Body& body) const {
    for (int64_t head = first_head; head < first_head + heads; ++head) {
      for (int64_t g = 0; g < group_; ++g) body(head * head_rows_ + query * group_ + g);
    }
  }
  size_t enough(int64_t tile, std::span<const Candidate> merged, std::span<const float> scores) const;
  size_t take(int64_t tile, std::span<const Candidate> best, std::span<const int32_t> forced,
              std::span<int32_t> chosen) const;

  const Reading& reading_;
  const IndexOfLayer index_;
  const AttnParams& params_;
  const int64_t pos0_;
  const MatView q_;
  const int n_threads_;
  const std::span<const int32_t> listed_;  // [n_scopes, blocks], of one tile each; empty: all far blocks
  const int64_t n_kv_heads_;
  const int64_t group_;
  const int64_t n_choices_;  // queries that choose
  const int64_t head_rows_;  // of a KV head: those times group
  const int64_t first_;      // far blocks of the last query
  const int64_t end_;
  const int64_t n_chunks_;
};

// The mean of all queries of a head's group, as if they stood where the last one does.
void Selection::turn_mean(int64_t head, std::span<float> memory, const IndexQueries& out) const {
  const kernels::OpSlots& ops = kernels::active().ops;
  const int64_t width = group_ * params_.layout.k_dim;
  float* const mean = memory.data();
  float* const row = mean + width;
  std::fill_n(mean, width, 0.0F);
  for (int64_t t = 0; t < q_.rows; ++t) {
    std::copy_n(q_.row(t) + head * width, width, row);
    turn(params_.rotary, q_.rows - 1 - t, row, group_, params_.layout.k_dim);
    ops.add_scaled(mean, row, 1.0F / static_cast<float>(q_.rows), width);
  }
  index_.index->turn_queries(mean, pos0_ + q_.rows - 1, params_.scale, out);
}

void Selection::turn_queries(const IndexQueries& queries, Workspace& scratch) const {
  if (reading_.choice == Choice::kTile) {
    const int64_t floats = 2 * group_ * params_.layout.k_dim;
    const std::span<float> memory = scratch.take<float>(floats * n_kv_heads_);
    parallel_for(n_threads_, n_kv_heads_, [&](int64_t head, int) {
      turn_mean(head, memory.subspan(static_cast<size_t>(head * floats), static_cast<size_t>(floats)),
                index_.index->part_of(queries, head * head_rows_, group_));
    });
    return;
  }
  const int64_t n = n_kv_heads_ * q_.rows;
  parallel_for(n < 4 ? 1 : n_threads_, n, [&](int64_t task, int) {
    const int64_t head = task / q_.rows, t = task % q_.rows;
    index_.index->turn_queries(q_.row(t) + head * group_ * params_.layout.k_dim, pos0_ + t, params_.scale,
                               index_.index->part_of(queries, head * head_rows_ + t * group_, group_));
  });
}

// scores [n_kv_heads, queries, group, far blocks]
void Selection::score(const IndexQueries& queries, std::span<float> scores, Workspace& scratch) const {
  const int64_t far = end_ - first_;
  const int64_t floats = index_.index->score_floats(head_rows_);
  const std::span<float> buffers = scratch.take<float>(floats * n_threads_);
  if (!listed_.empty()) {
    const int64_t heads = n_kv_heads_ / n_scopes();
    return parallel_for(n_threads_, n_scopes() * n_chunks_, [&](int64_t task, int thread) {
      const int64_t scope = task / n_chunks_, from = task % n_chunks_ * kChunkBlocks;
      const auto list = listed_.subspan(static_cast<size_t>(scope * far + from),
                                        static_cast<size_t>(std::min(kChunkBlocks, far - from)));
      const int64_t row = scope * heads * head_rows_;
      index_.index->score_listed(index_.index->part_of(queries, row, heads * head_rows_), scope * heads, heads,
                                 *index_.rows, list, scores.data() + row * far + from, far,
                                 buffers.data() + thread * floats);
    });
  }
  parallel_for(n_threads_, n_chunks_, [&](int64_t chunk, int thread) {
    const int64_t from = first_ + chunk * kChunkBlocks;
    index_.index->score(queries, *index_.rows, from, std::min(end_, from + kChunkBlocks), scores.data() + from - first_,
                        far, buffers.data() + thread * floats);
  });
}

// The list of a query, by the keys: a disk is read by one thread.
Status Selection::score_by_strips(std::span<float> scores, Workspace& scratch, SelectionExtras& extras) const {
  LCRUN_CHECK(extras.keys != nullptr && n_choices_ == 1);
  const int64_t far = end_ - first_, heads = n_kv_heads_ / n_scopes();
  const auto room = scratch.take<float>(strip_floats(params_));
  for (int64_t head = 0; head < n_kv_heads_; ++head) {
    const auto list = listed_.subspan(static_cast<size_t>(head / heads * far), static_cast<size_t>(far));
    const StripQueries queries{q_.row(0) + head * group_ * params_.layout.k_dim, pos0_, head};
    LCRUN_TRY(score_strips(params_, *extras.keys, queries, list, scores.data() + head * group_ * far, far, room));
    extras.looked_at += far;
  }
  return {};
}

// Scores become logarithms of shares: `totals`, those of the sums of all blocks, are taken off.
void Selection::normalise(std::span<float> scores, std::span<float> totals) const {
  const kernels::OpSlots& ops = kernels::active().ops;
  const int64_t far = end_ - first_;
  parallel_for(n_threads_, n_kv_heads_ * head_rows_, [&](int64_t row, int) {
    float* s = scores.data() + row * far;
    const int64_t n = end_of(row % head_rows_ / group_) - first_;
    if (n <= 0) return;
    const float top = ops.max_value(s, n);
    const auto total = static_cast<float>(std::log(ops.sum_exp(s, top, n))) + top;
    totals[static_cast<size_t>(row)] = total;
    for (int64_t b = 0; b < n; ++b) s[b] -= total;
  });
}

// best [queries, scopes, chunks, blocks]: the best of each chunk, and how many there are.
void Selection::choose(std::span<float> scores, std::span<Candidate> best, std::span<int32_t> counts) const {
  const int64_t far = end_ - first_;
  const int64_t heads = n_kv_heads_ / n_scopes();
  parallel_for(n_threads_, n_choices_ * n_scopes() * n_chunks_, [&](int64_t task, int) {
    const int64_t from = task % n_chunks_ * kChunkBlocks;
    const int64_t scope = task / n_chunks_ % n_scopes();
    const int64_t query = task / n_chunks_ / n_scopes();
    const int64_t n = std::min(kChunkBlocks, end_of(query) - first_ - from);
    float share[kChunkBlocks];
    std::fill_n(share, kChunkBlocks, kNone);
    for_rows_of(query, scope * heads, heads, [&](int64_t row) {
      const float* s = scores.data() + row * far + from;
      for (int64_t b = 0; b < n; ++b) share[b] = std::max(share[b], s[b]);
    });
    const auto most = static_cast<size_t>(reading_.blocks);
    const auto mine = best.subspan(static_cast<size_t>(task) * most, most);
    size_t found = 0;
    for (int64_t b = 0; b < n; ++b) offer(mine, found, most, {share[b], static_cast<int32_t>(first_ + from + b)});
    counts[static_cast<size_t>(task)] = static_cast<int32_t>(found);
  });
}

// The largest shares of a tile's heads by the keys themselves. Blocks are looked at in the order of their bounds, until
// what is found is no less than what the next one promises.
Status Selection::best_first(const Scored& scored, int64_t tile, std::span<Candidate> best, size_t& found,
                             Workspace& scratch, SelectionExtras& extras) const {
  LCRUN_CHECK(extras.keys != nullptr);
  const int64_t query = tile / n_scopes(), heads = n_kv_heads_ / n_scopes(), first_head = tile % n_scopes() * heads;
  const int64_t far = end_ - first_, n = end_of(query) - first_;
  const size_t mark = scratch.mark();
  const auto order = scratch.take<Candidate>(far);
  for (int64_t b = 0; b < n; ++b) {
    float bound = kNone;
    for_rows_of(query, first_head, heads,
                [&](int64_t row) { bound = std::max(bound, scored.scores.data()[row * far + b]); });
    order[static_cast<size_t>(b)] = {bound, static_cast<int32_t>(first_ + b)};
  }
  std::sort(order.begin(), order.begin() + n, is_better);
  const auto most = static_cast<size_t>(reading_.blocks);
  Status read;
  for (const Candidate& next : order.first(static_cast<size_t>(n))) {
    if (found == most && best[found - 1].share >= next.share) break;
    float share = kNone;
    for (int64_t head = first_head; read.has_value() && head < first_head + heads; ++head) {
      read = look_at(scored, next.block, head, query, share, *extras.keys);
      ++extras.looked_at;
    }
    if (!read.has_value()) break;
    offer(best, found, most, {share, next.block});
  }
  scratch.release(mark);
  return read;
}

// The best key's share in a block, of a KV head's queries; `share` keeps what is more.
Status Selection::look_at(const Scored& scored, int64_t block, int64_t head, int64_t query, float& share,
                          storage::Region& kv) const {
  const int64_t dim = params_.layout.k_dim;
  CachedKeys keys(params_, kv, pos0_, head);
  LCRUN_TRY(keys.load(block));
  for (int64_t g = 0; g < group_; ++g) {
    const int64_t row = head * head_rows_ + query * group_ + g;
    // Bounds are scored by the positive and the negative part of a query.
    const float* parts = scored.queries.q + row * index_.index->row_dim();
    float q[kernels::kMaxHeadDim], scores[kKvBlock];
    for (int64_t d = 0; d < dim; ++d) q[d] = parts[d] + parts[dim + d];
    turn(params_.rotary, block * kKvBlock, q, 1, dim);
    keys.score(q, scores);
    share = std::max(share, *std::max_element(scores, scores + kKvBlock) - scored.totals[static_cast<size_t>(row)]);
  }
  return {};
}

// How many of the best blocks hold the mass that is wanted of every head in a tile's scope.
size_t Selection::enough(int64_t tile, std::span<const Candidate> merged, std::span<const float> scores) const {
  const int64_t query = tile / n_scopes();
  // Who could read all of them reads all, whoever is planned with it.
  if (reading_.mass <= 0 || n_far(query) <= reading_.blocks) return merged.size();
  const int64_t heads = n_kv_heads_ / n_scopes();
  const int64_t first = tile % n_scopes() * heads;
  size_t most = 0;
  for_rows_of(query, first, heads, [&](int64_t row) {
    const float* s = scores.data() + row * (end_ - first_);
    double sum = 0;
    size_t n = 0;
    while (n < merged.size() && sum < reading_.mass) sum += std::exp(double(s[merged[n++].block - first_]));
    most = std::max(most, n);
  });
  return most;
}

// Forced blocks, and the best of the others while there is room.
size_t Selection::take(int64_t tile, std::span<const Candidate> best, std::span<const int32_t> forced,
                       std::span<int32_t> chosen) const {
  size_t n = 0;
  const auto add = [&](int32_t block) {
    const auto end = chosen.begin() + static_cast<int64_t>(n);
    if (n < chosen.size() && std::find(chosen.begin(), end, block) == end) chosen[n++] = block;
  };
  for (const int32_t block : forced) {
    if (block >= first_ && block < far_end(tile / n_scopes())) add(block);
  }
  for (const Candidate& candidate : best) add(block_of(tile, candidate.block));
  return n;
}

void Selection::shortlist(int64_t most, std::span<int32_t> lists, Workspace& scratch) const {
  const size_t mark = scratch.mark();
  const int64_t far = end_ - first_;
  const auto totals = scratch.take<float>(n_kv_heads_ * head_rows_);
  const IndexQueries queries = index_.index->take_queries(n_kv_heads_ * head_rows_, scratch);
  const auto scores = scratch.take<float>(n_kv_heads_ * head_rows_ * far);
  const auto rooms = scratch.take<RankedBlock>(far * n_threads_);
  turn_queries(queries, scratch);
  score(queries, scores, scratch);
  normalise(scores, totals);
  const int64_t heads = n_kv_heads_ / n_scopes();
  parallel_for(n_threads_, n_choices_ * n_scopes(), [&](int64_t tile, int thread) {
    const int64_t query = tile / n_scopes(), first_head = tile % n_scopes() * heads;
    // Its first row's scores become the shares of all rows.
    float* const share = scores.data() + (first_head * head_rows_ + query * group_) * far;
    for_rows_of(query, first_head, heads, [&](int64_t row) {
      const float* s = scores.data() + row * far;
      for (int64_t b = 0; b < n_far(query); ++b) share[b] = std::max(share[b], s[b]);
    });
    pick_shortlist({share, static_cast<size_t>(n_far(query))}, first_,
                   rooms.subspan(static_cast<size_t>(thread * far), static_cast<size_t>(far)),
                   lists.subspan(static_cast<size_t>(tile * most), static_cast<size_t>(most)));
  });
  scratch.release(mark);
}

// Shares of all far blocks, as logarithms; what the index was asked goes to `queries`.
Status Selection::score_far(std::span<float> scores, std::span<float> totals, IndexQueries& queries, Workspace& scratch,
                            SelectionExtras& extras) const {
  if (reading_.is_by_keys()) {
    LCRUN_CHECK(extras.keys != nullptr);
    extras.looked_at += (end_ - first_) * n_kv_heads_;
    return find_shares({reading_, params_, *extras.keys, pos0_, q_, first_, end_}, scores, scratch, n_threads_);
  }
  if (reading_.choice == Choice::kStrips) {
    LCRUN_TRY(score_by_strips(scores, scratch, extras));
  } else {
    queries = index_.index->take_queries(n_kv_heads_ * head_rows_, scratch);
    turn_queries(queries, scratch);
    score(queries, scores, scratch);
  }
  normalise(scores, totals);
  return {};
}

template <class Take>
Status Selection::choose_for_tiles(Workspace& scratch, SelectionExtras& extras, const Take& take_blocks) {
  const size_t mark = scratch.mark();
  const int64_t n_tiles = n_choices_ * n_scopes();
  const auto most = static_cast<size_t>(reading_.blocks);
  const auto chosen = scratch.take<int32_t>(reading_.blocks);
  const auto best = scratch.take<Candidate>(n_tiles * std::max<int64_t>(n_chunks_, 1) * reading_.blocks);
  const auto counts = scratch.take<int32_t>(n_tiles * std::max<int64_t>(n_chunks_, 1));
  const auto merged = scratch.take<Candidate>(reading_.blocks);
  const auto totals = scratch.take<float>(n_kv_heads_ * head_rows_);
  IndexQueries queries{};
  // When all far blocks fit there is nothing to choose.
  const bool is_all = end_ - first_ <= reading_.blocks;
  const bool is_exact = reading_.choice == Choice::kExact && !is_all;
  std::span<float> scores;
  if (!is_all) {
    scores = scratch.take<float>(n_kv_heads_ * head_rows_ * (end_ - first_));
    LCRUN_TRY(score_far(scores, totals, queries, scratch, extras));
    if (!is_exact) choose(scores, best, counts);
  }
  for (int64_t tile = 0; tile < n_tiles; ++tile) {
    size_t n = 0;
    if (is_exact) LCRUN_TRY(best_first({queries, scores, totals}, tile, merged, n, scratch, extras));
    for (int64_t chunk = 0; !is_all && !is_exact && chunk < n_chunks_; ++chunk) {
      const auto task = static_cast<size_t>(tile * n_chunks_ + chunk);
      const auto found = best.subspan(task * most, static_cast<size_t>(counts[task]));
      for (const Candidate& candidate : found) offer(merged, n, most, candidate);
    }
    if (!is_all) n = enough(tile, merged.first(n), scores);
    if (!is_all) n = take(tile, merged.first(n), extras.forced, chosen);
    for (int64_t b = first_; is_all && b < end_of(tile / n_scopes()); ++b) {
      chosen[n++] = block_of(tile, static_cast<int32_t>(b));
    }
    std::sort(chosen.begin(), chosen.begin() + static_cast<int64_t>(n));
    take_blocks(tile, chosen.first(n));
  }
  scratch.release(mark);
  return {};
}

}  // namespace

TilePlan plan_stream(const Reading& reading, int64_t pos0, int64_t n, Workspace& scratch) {
  const int64_t first = pos0 / kKvBlock;
  const int64_t end = ceil_div(pos0 + n, kKvBlock);
  const auto tiles = scratch.take<PlanTile>(end - first);
  const auto segments = scratch.take<Segment>(2 * (end - first));
  for (int64_t block = first; block < end; ++block) {
    const int64_t begin = std::max(pos0, block * kKvBlock);
    const int64_t stop = std::min(pos0 + n, (block + 1) * kKvBlock);
    PlanTile& tile = tiles[static_cast<size_t>(block - first)];
    tile = {begin - pos0, stop - begin, -1, {}};
    tile.segments = lay_out(reading, reading.window_begin(begin), stop, {},
                            segments.subspan(static_cast<size_t>(2 * (block - first)), 2));
  }
  return {tiles};
}

std::span<const Segment> plan_everything(const Reading& reading, const Slide& slide, int64_t end, Workspace& scratch) {
  const int64_t query_block = (end - 1) / kKvBlock * kKvBlock;
  const auto segments = scratch.take<Segment>(ceil_div(end, kKvBlock));
  size_t n = 0;
  for (int64_t row = 0; row < end; row += kKvBlock) {
    if (row >= slide.sinks && row < reading.gone_until) continue;
    add_segment(segments, n, {row, std::min(end, row + kKvBlock), reading.positions.shift(query_block, row)});
  }
  return segments.first(n);
}

Result<TilePlan> plan_selection(const Reading& reading, const IndexOfLayer& index, const AttnParams& params,
                                int64_t pos0, MatView q, Workspace& scratch, int n_threads, SelectionExtras& extras) {
  LCRUN_CHECK(q.rows <= (reading.is_by_tile() ? kKvBlock : kAskQueries));
  LCRUN_CHECK(index.index != nullptr || !reading.needs_index());
  n_threads = std::max(1, n_threads);
  const int64_t scopes = scopes_of(reading, params);
  const int64_t each = reading.is_by_tile() ? q.rows : 1;
  QueryTiles tiles(reading, pos0, q.rows / each, scopes, scratch, each);
  const auto keep = [&](int64_t tile, std::span<const int32_t> chosen) {
    tiles.fill(tile, chosen);
    for (int64_t i = 0; extras.keep != nullptr && i < each; ++i) {
      extras.keep->put(pos0 + tile / scopes * each + i, tile % scopes, chosen);
    }
  };
  Selection all(reading, index, params, pos0, q, n_threads);
  const int64_t most = reading.most_listed();
  const bool by_strips = reading.choice == Choice::kStrips;
  const bool has_list = by_strips || reading.has_levels();
  if (!has_list || all.n_far(q.rows - 1) <= (by_strips ? reading.blocks : most)) {
    LCRUN_TRY(all.choose_for_tiles(scratch, extras, keep));
    return tiles.plan();
  }
  LCRUN_CHECK(by_strips || (extras.coarse.has_value() && reading.choice != Choice::kExact));
  const auto lists = scratch.take<int32_t>(tiles.size() * most);
  const IndexOfLayer coarse = by_strips ? index : IndexOfLayer{&extras.coarse->index, &extras.coarse->rows};
  Selection(reading, coarse, params, pos0, q, n_threads).shortlist(most, lists, scratch);
  for (int64_t query = 0; query < q.rows; query += each) {
    const int64_t tile = query / each * scopes;
    const int64_t n = std::min(most, all.n_far(query + each - 1));
    // One behind the other, also where there are fewer than there may be.
    const auto mine = lists.subspan(static_cast<size_t>(tile * most), static_cast<size_t>(scopes * most));
    for (int64_t scope = 1; scope < scopes; ++scope) {
      std::copy_n(mine.begin() + scope * most, n, mine.begin() + scope * n);
    }
    Selection fine(reading, index, params, pos0 + query, {q.row(query), each, q.cols, q.stride}, n_threads,
                   mine.first(static_cast<size_t>(scopes * n)));
    LCRUN_TRY(fine.choose_for_tiles(
        scratch, extras, [&](int64_t scope, std::span<const int32_t> chosen) { keep(tile + scope, chosen); }));
  }
  return tiles.plan();
}

TilePlan plan_taken_over(const Reading& reading, const ChosenBlocks& chosen, const AttnParams& params, int64_t pos0,
                         int64_t n, Workspace& scratch, int64_t leader) {
  const int64_t scopes = scopes_of(reading, params);
  const int64_t each = reading.is_by_tile() ? n : 1;
  QueryTiles tiles(reading, pos0, n / each, scopes, scratch, each);
  for (int64_t tile = 0; tile < tiles.size(); ++tile) {
    tiles.fill(tile, chosen.at(leader >= 0 ? leader : pos0 + tile / scopes * each, tile % scopes));
  }
  return tiles.plan();
}

int64_t scopes_of(const Reading& reading, const AttnParams& params) {
  return reading.scope == Scope::kHead ? params.layout.n_kv_heads : 1;
}

uint64_t everything_scratch_bytes(const Attention& attention) {
  const bool moves = attention.read.positions.moves() || attention.ask.positions.moves();
  return moves ? Workspace::bytes_of<Segment>(ceil_div(attention.n_ctx, kKvBlock) + 1) : 0;
}

uint64_t plan_scratch_bytes(const Attention& attention, const AttnParams& params, int64_t n, int n_threads) {
  const int64_t blocks = n / kKvBlock + 2;
  const uint64_t bytes = Workspace::bytes_of<PlanTile>(blocks) + Workspace::bytes_of<Segment>(2 * blocks);
  if (attention.read.role != Role::kSelect && attention.ask.role != Role::kSelect) return bytes;
  const int64_t most = std::max(attention.ask.blocks, attention.read.blocks);
  const int64_t queries = std::min(n, kAskQueries);
  const int64_t tiles = queries * params.layout.n_kv_heads;
  const int64_t rows = queries * params.n_heads;
  const int64_t far = ceil_div(attention.n_ctx, kKvBlock);
  const int64_t chunks = ceil_div(far, kChunkBlocks) + 1;
  uint64_t by_index = 0, by_keys = 0;
  if (const IndexKind* kind = attention.index()) {
    const BlockIndex index(*kind, params.layout, params.rotary);
    const int64_t floats = index.score_floats(rows / params.layout.n_kv_heads);
    by_index = index.queries_bytes(rows) + Workspace::bytes_of<float>(2 * params.n_heads * params.layout.k_dim) +
               Workspace::bytes_of<Candidate>(far) + Workspace::bytes_of<float>(floats * std::max(1, n_threads));
  }
  for (const Reading* reading : {&attention.read, &attention.ask}) {
    if (reading->role != Role::kSelect || !reading->is_by_keys()) continue;
    by_keys = std::max(by_keys, find_shares_bytes(*reading, params, n, far, n_threads));
  }
  const uint64_t selection =
      Workspace::bytes_of<PlanTile>(tiles) + Workspace::bytes_of<Segment>(tiles * (most + 2)) +
      Workspace::bytes_of<int32_t>(most) + Workspace::bytes_of<Candidate>(tiles * chunks * most) +
      Workspace::bytes_of<int32_t>(tiles * chunks) + Workspace::bytes_of<Candidate>(most) +
      Workspace::bytes_of<float>(rows * far) + Workspace::bytes_of<float>(rows) + std::max(by_index, by_keys);
  return std::max(bytes, selection + shortlist_scratch_bytes(attention, params, tiles, rows, std::max(1, n_threads)));
}

int64_t blocks_of(const TilePlan& plan, const KvLayout& layout) {
  int64_t total = 0;
  for (const PlanTile& tile : plan.tiles) {
    for (const Segment& segment : tile.segments) {
      total += (ceil_div(segment.end_row, kKvBlock) - segment.first_row / kKvBlock) *
               (tile.kv_head < 0 ? layout.n_kv_heads : 1);
    }
  }
  return total;
}

}  // namespace lcrun::attention
