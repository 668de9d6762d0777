// Parts that recurrent mixers share: the short causal convolution with its history, and Fixed regions of floats.
#pragma once

#include <cmath>
#include <vector>

#include "src/base/result.hpp"
#include "src/base/tensor.hpp"
#include "src/model/tensors.hpp"
#include "storage/region.hpp"

namespace lcrun::model {

// A region of `n` floats that each token overwrites.
storage::RegionSpec fixed_region(const char* name, int64_t n);
// Its contents; prepare_fixed() must have succeeded.
float* fixed_floats(storage::Region& region);

// ln(1 + e^x); for large x, where e^x would overflow, x itself.
inline float softplus(float x) { return x > 20.0F ? x : std::log1p(std::exp(x)); }

// Causal depthwise convolution over the last `taps` tokens, then SiLU.
class ConvState {
 public:
  // ssm_conv1d.weight [channels, taps] (newest tap last) and, optionally, ssm_conv1d.bias [channels].
  static Result<ConvState> load(const TensorLoader& tensors, int64_t taps, int64_t channels);

  storage::RegionSpec region() const { return fixed_region("conv", (taps_ - 1) * channels_); }
  // in, out [rows, channels]. The history is taken from the region and left there.
  void run(storage::Region& history, MatView in, MatView out) const;

 private:
  int64_t taps_ = 0;
  int64_t channels_ = 0;
  std::vector<float> weight_;
  std::vector<float> bias_;
};

}  // namespace lcrun::model
