#include "src/model/recurrence.hpp"

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::model {

storage::RegionSpec fixed_region(const char* name, int64_t n) {
  storage::RegionSpec spec;
  spec.kind = storage::RegionKind::kFixed;
  spec.name = name;
  spec.block_bytes = static_cast<uint64_t>(n) * sizeof(float);
  return spec;
}

float* fixed_floats(storage::Region& region) { return reinterpret_cast<float*>(region.fixed().data()); }

Result<ConvState> ConvState::load(const TensorLoader& tensors, int64_t taps, int64_t channels) {
  ConvState conv;
  conv.taps_ = taps;
  conv.channels_ = channels;
  const char* name = "ssm_conv1d.weight";
  if (taps < 2) return tensors.file().meta().fail(tensors.name(name), format("{} taps", taps), "2 or more");
  LCRUN_TRY(tensors.view(name, taps, channels, 1));
  LCRUN_ASSIGN(conv.weight_, tensors.vector(name, taps * channels));
  LCRUN_ASSIGN(conv.bias_, tensors.optional_vector("ssm_conv1d.bias", channels));
  return conv;
}

void ConvState::run(storage::Region& history, MatView in, MatView out) const {
  float* past = fixed_floats(history);
  const float* bias = bias_.empty() ? nullptr : bias_.data();
  for (int64_t row = 0; row < in.rows; ++row) {
    kernels::conv_step(past, in.row(row), weight_.data(), bias, channels_, taps_, out.row(row));
    kernels::activate(kernels::Activation::kSilu, out.row(row), channels_);
  }
}

}  // namespace lcrun::model
