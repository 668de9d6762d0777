#include "src/attention/probe.hpp"

#include <algorithm>
#include <cmath>

#include "src/attention/cached_keys.hpp"
#include "src/attention/turn.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;

constexpr int64_t kMostScores = 1 << 20;  // floats kept at a time, unless one query of one KV head needs more

}  // namespace

// A tile of queries and what of the cache they have read, for the watched heads of one KV head.
class AttnProbe::Look {
 public:
  Look(const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q, std::span<const Segment> segments,
       int64_t kv_head)
      : params_(params), pos0_(pos0), q_(q), segments_(segments), keys_(params, kv, pos0, kv_head) {
    for (const Segment& segment : segments) n_keys_ += segment.end_row - segment.first_row;
  }

  // Queries that are looked at together.
  int64_t queries_at_once(int64_t heads) const { return std::max<int64_t>(1, kMostScores / (n_keys_ * heads + 1)); }
  // Weights of queries [first, first + count) of the batch for each of the heads.
  Status run(int64_t first, int64_t count, std::span<const WatchedHead> heads);
  // Adds them to the masses of their tokens.
  void count(std::span<const WatchedHead> heads, int64_t n_slots, float least,
             std::map<int64_t, std::vector<float>>& mass) const;

 private:
  void score_block(int64_t first_row, int64_t end_row, std::span<const float> q, int64_t at);
  void weigh(std::span<float> scores, int64_t head, int64_t pos) const;

  const AttnParams& params_;
  const int64_t pos0_;
  const MatView q_;
  const std::span<const Segment> segments_;
  CachedKeys keys_;
  int64_t n_keys_ = 0;
  std::vector<float> scores_;  // [queries, heads, n_keys]
};

// Rows of the loaded block meet all query rows.  // q [queries * heads, k_dim]; `at`: the first row's place in scores_
void AttnProbe::Look::score_block(int64_t first_row, int64_t end_row, std::span<const float> q, int64_t at) {
  const int64_t dim = params_.layout.k_dim;
  const int64_t skipped = first_row % kKvBlock;
  for (size_t row = 0; row * static_cast<size_t>(dim) < q.size(); ++row) {
    float s[kKvBlock];
    keys_.score(q.data() + row * static_cast<size_t>(dim), s);
    std::copy(s + skipped, s + skipped + end_row - first_row,
              scores_.begin() + static_cast<int64_t>(row) * n_keys_ + at);
  }
}

// Scores of one query become weights; keys after its position get none.
void AttnProbe::Look::weigh(std::span<float> scores, int64_t head, int64_t pos) const {
  const float cap = params_.soft_cap;
  float top = params_.sinks != nullptr ? params_.sinks[head] : -3e38F;
  size_t at = 0;
  const auto each_visible = [&](const auto& body) {
    at = 0;
    for (const Segment& segment : segments_) {
      for (int64_t row = segment.first_row; row < segment.end_row; ++row, ++at) body(scores[at], row <= pos);
    }
  };
  each_visible([&](float& s, bool visible) {
    if (cap != 0.0F) s = cap * std::tanh(s / cap);
    if (visible) top = std::max(top, s);
  });
  double total = params_.sinks != nullptr ? std::exp(double(params_.sinks[head] - top)) : 0.0;
  each_visible([&](float& s, bool visible) {
    s = visible ? std::exp(s - top) : 0.0F;
    total += double(s);
  });
  const auto scale = static_cast<float>(total > 0 ? 1.0 / total : 0.0);
  for (float& s : scores) s *= scale;
}

Status AttnProbe::Look::run(int64_t first, int64_t count, std::span<const WatchedHead> heads) {
  const int64_t dim = params_.layout.k_dim;
  const auto n_heads = static_cast<int64_t>(heads.size());
  scores_.assign(static_cast<size_t>(count * n_heads * n_keys_), 0.0F);
  std::vector<float> q(static_cast<size_t>(count * n_heads * dim));
  int64_t at = 0;
  for (const Segment& segment : segments_) {
    float* row = q.data();
    for (int64_t t = first; t < first + count; ++t) {
      for (const WatchedHead& watched : heads) {
        const float* from = q_.row(t) + watched.head * dim;
        for (int64_t d = 0; d < dim; ++d) *row++ = from[d] * params_.scale;
      }
    }
    if (segment.shift != 0) turn(params_.rotary, -segment.shift, q.data(), count * n_heads, dim);
    for (int64_t begin = segment.first_row; begin < segment.end_row;) {
      const int64_t block = begin / kKvBlock;
      const int64_t end = std::min(segment.end_row, (block + 1) * kKvBlock);
      LCRUN_TRY(keys_.load(block));
      score_block(begin, end, q, at);
      at += end - begin;
      begin = end;
    }
  }
  for (int64_t row = 0; row < count * n_heads; ++row) {
    weigh(std::span(scores_).subspan(static_cast<size_t>(row * n_keys_), static_cast<size_t>(n_keys_)),
          heads[static_cast<size_t>(row % n_heads)].head, pos0_ + first + row / n_heads);
  }
  return {};
}

void AttnProbe::Look::count(std::span<const WatchedHead> heads, int64_t n_slots, float least,
                            std::map<int64_t, std::vector<float>>& mass) const {
  const size_t rows = n_keys_ > 0 ? scores_.size() / static_cast<size_t>(n_keys_) : 0;
  int64_t at = 0;
  for (const Segment& segment : segments_) {
    for (int64_t begin = segment.first_row; begin < segment.end_row;) {
      const int64_t block = begin / kKvBlock;
      const int64_t end = std::min(segment.end_row, (block + 1) * kKvBlock);
      std::vector<float>& counted = mass[block];
      counted.resize(static_cast<size_t>(n_slots * kKvBlock));
      for (size_t row = 0; row < rows; ++row) {
        float* out = counted.data() + heads[row % heads.size()].slot * kKvBlock + begin % kKvBlock;
        const float* weights = scores_.data() + static_cast<int64_t>(row) * n_keys_ + at;
        for (int64_t i = 0; i < end - begin; ++i) out[i] += weights[i] >= least ? weights[i] : 0.0F;
      }
      at += end - begin;
      begin = end;
    }
  }
}

AttnProbe::AttnProbe(std::vector<WatchedHead> heads) : heads_(std::move(heads)) {
  for (const WatchedHead& watched : heads_) {
    n_slots_ = std::max(n_slots_, watched.slot + 1);
    last_layer_ = std::max(last_layer_, watched.layer);
  }
}

void AttnProbe::watch(int64_t from, int64_t until) {
  mass_.clear();
  from_ = from;
  until_ = until;
}

int64_t AttnProbe::layers_to_run(int64_t n_layers) const {
  return leaves_out_ ? std::min(n_layers, last_layer_ + 1) : n_layers;
}

bool AttnProbe::wants(int64_t layer, int64_t pos0, int64_t n) const {
  if (pos0 >= until_ || pos0 + n <= from_) return false;
  return std::any_of(heads_.begin(), heads_.end(), [&](const WatchedHead& watched) { return watched.layer == layer; });
}

Status AttnProbe::observe(int64_t layer, const AttnParams& params, storage::Region& kv, const TilePlan& plan,
                          int64_t pos0, MatView q) {
  const int64_t group = params.n_heads / params.layout.n_kv_heads;
  for (const PlanTile& tile : plan.tiles) {
    const int64_t first = std::max(tile.first, from_ - pos0);
    const int64_t end = std::min(tile.first + tile.count, until_ - pos0);
    if (first >= end) continue;
    for (int64_t kv_head = 0; kv_head < params.layout.n_kv_heads; ++kv_head) {
      if (tile.kv_head >= 0 && tile.kv_head != kv_head) continue;
      std::vector<WatchedHead> heads;
      for (const WatchedHead& watched : heads_) {
        if (watched.layer == layer && watched.head / group == kv_head) heads.push_back(watched);
      }
      if (heads.empty()) continue;
      Look look(params, kv, pos0, q, tile.segments, kv_head);
      const int64_t most = look.queries_at_once(static_cast<int64_t>(heads.size()));
      for (int64_t query = first; query < end; query += most) {
        LCRUN_TRY(look.run(query, std::min(most, end - query), heads));
        look.count(heads, n_slots_, least_, mass_);
      }
    }
  }
  return {};
}

Status AttnProbe::observe_dense(int64_t layer, const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q) {
  const Segment all{0, pos0 + q.rows};
  const PlanTile tile{0, q.rows, -1, {&all, 1}};
  return observe(layer, params, kv, {{&tile, 1}}, pos0, q);
}

std::vector<float> AttnProbe::mass(int64_t first, int64_t end, int64_t slot) const {
  std::vector<float> all(static_cast<size_t>(std::max<int64_t>(0, end - first)));
  for (const auto& [block, counted] : mass_) {
    const int64_t begin = std::max(first, block * kKvBlock);
    const int64_t stop = std::min(end, (block + 1) * kKvBlock);
    for (int64_t i = begin; i < stop; ++i) {
      all[static_cast<size_t>(i - first)] = counted[static_cast<size_t>(slot * kKvBlock + i % kKvBlock)];
    }
  }
  return all;
}

}  // namespace lcrun::attention
