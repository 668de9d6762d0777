// RecallMeter: how much of the attention that a query would pay to the whole text falls on what it was given to read.
//
// Of some queries the scores of all keys are computed, exactly and slowly, and their softmax is taken over everything;
// recall is the share of the rows that the plan names, averaged over the query heads of a layer. Up to the trained
// context keys stand at their true positions, which is the attention of dense layers. Past it nobody knows what dense
// attention would be: rows that were read stand where the plan has put them, all others as near as an index sees them
// (65 to 128 tokens before the query), so that recall says what choosing has missed.
// Cost: all keys of a layer for each sample. Thread rule: the thread that drives the step.
#pragma once

#include <cstdint>
#include <map>

#include "src/attention/observer.hpp"

namespace lcrun::attention {

class RecallMeter final : public PlanObserver {
 public:
  explicit RecallMeter(int64_t n_ctx_train) : n_ctx_train_(n_ctx_train) {}

  // From now on queries at `from`, `from` + every, ... are sampled, `most` of them, in layers that choose.
  void sample(int64_t from, int64_t every, int64_t most) {
    from_ = from;
    every_ = every;
    most_ = most;
  }
  Status observe(const PlanSeen& seen) override;

  struct Layer {
    int64_t samples = 0;
    double sum = 0;
    double least = 1;
    double mean() const { return samples > 0 ? sum / static_cast<double>(samples) : 0; }
  };
  const std::map<int64_t, Layer>& layers() const { return layers_; }
  // Over all layers; 0 without a sample.
  double mean() const;

 private:
  bool is_sampled(int64_t pos) const {
    return pos >= from_ && (pos - from_) % every_ == 0 && (pos - from_) / every_ < most_;
  }

  int64_t n_ctx_train_;
  int64_t from_ = 0;
  int64_t every_ = 1;
  int64_t most_ = 0;
  std::map<int64_t, Layer> layers_;
};

}  // namespace lcrun::attention
