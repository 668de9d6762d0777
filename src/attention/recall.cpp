#include "src/attention/recall.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/attention/block_index.hpp"
#include "src/attention/cached_keys.hpp"
#include "src/attention/turn.hpp"

namespace lcrun::attention {
namespace {

constexpr int64_t kBlock = storage::kBlockTokens;

// exp(scores) added up, in the plan and in all, relative to the largest so far.
struct Mass {
  double top = -1e300;
  double named = 0;
  double all = 0;

  void add(double score, bool is_named) {
    if (score > top) {
      const double decay = std::exp(top - score);
      named *= decay;
      all *= decay;
      top = score;
    }
    const double weight = std::exp(score - top);
    all += weight;
    if (is_named) named += weight;
  }
  double share() const { return all > 0 ? named / all : 1.0; }
};

const Segment* segment_of(std::span<const Segment> segments, int64_t row) {
  const auto after = std::upper_bound(segments.begin(), segments.end(), row,
                                      [](int64_t wanted, const Segment& segment) { return wanted < segment.end_row; });
  return after != segments.end() && after->first_row <= row ? &*after : nullptr;
}

// One query and the heads of one KV head.
struct Sample {
  const PlanSeen& seen;
  std::span<const Segment> segments;
  int64_t row = 0;  // of the batch
  int64_t kv_head = 0;
  bool at_true_places = true;

  // The sum of the heads' recalls.
  Result<double> measure() const;

 private:
  int64_t pos() const { return seen.pos0 + row; }
  int64_t shift_of(int64_t block) const {
    if (at_true_places) return 0;
    const Segment* segment = segment_of(segments, block * kBlock);
    return segment != nullptr ? segment->shift : pos() - kIndexQueryPlace - block * kBlock;
  }
};

Result<double> Sample::measure() const {
  const AttnParams& params = seen.params;
  const int64_t dim = params.layout.k_dim;
  const int64_t group = params.n_heads / params.layout.n_kv_heads;
  std::vector<Mass> masses(static_cast<size_t>(group));
  std::vector<float> turned(static_cast<size_t>(group * dim));
  CachedKeys keys(params, seen.kv, seen.pos0, kv_head);
  for (int64_t block = 0; block * kBlock <= pos(); ++block) {
    LCRUN_TRY(keys.load(block));
    const float* q = seen.q.row(row) + kv_head * group * dim;
    for (int64_t i = 0; i < group * dim; ++i) turned[static_cast<size_t>(i)] = q[i] * params.scale;
    turn(params.rotary, -shift_of(block), turned.data(), group, dim);
    const int64_t n = std::min(kBlock, pos() + 1 - block * kBlock);
    for (int64_t g = 0; g < group; ++g) {
      float scores[kBlock];
      keys.score(turned.data() + g * dim, scores);
      for (int64_t i = 0; i < n; ++i) {
        const double cap = static_cast<double>(params.soft_cap);
        double s = static_cast<double>(scores[i]);
        if (cap > 0) s = cap * std::tanh(s / cap);
        masses[static_cast<size_t>(g)].add(s, segment_of(segments, block * kBlock + i) != nullptr);
      }
    }
  }
  double sum = 0;
  for (const Mass& mass : masses) sum += mass.share();
  return sum;
}

}  // namespace

Status RecallMeter::observe(const PlanSeen& seen) {
  if (!seen.is_chosen || seen.has_gaps) return {};
  for (int64_t row = 0; row < seen.q.rows; ++row) {
    const int64_t pos = seen.pos0 + row;
    if (!is_sampled(pos)) continue;
    double sum = 0;
    for (const PlanTile& tile : seen.plan.tiles) {
      if (row < tile.first || row >= tile.first + tile.count) continue;
      for (int64_t head = 0; head < seen.params.layout.n_kv_heads; ++head) {
        if (tile.kv_head >= 0 && tile.kv_head != head) continue;
        const Sample sample{seen, tile.segments, row, head, !seen.is_moved || pos < n_ctx_train_};
        LCRUN_ASSIGN(const double part, sample.measure());
        sum += part;
      }
    }
    Layer& layer = layers_[seen.layer];
    const double recall = sum / static_cast<double>(seen.params.n_heads);
    ++layer.samples;
    layer.sum += recall;
    layer.least = std::min(layer.least, recall);
  }
  return {};
}

double RecallMeter::mean() const {
  double sum = 0;
  for (const auto& [layer, one] : layers_) sum += one.mean();
  return layers_.empty() ? 0 : sum / static_cast<double>(layers_.size());
}

}  // namespace lcrun::attention
