// What reference_model.hpp knows about a file: its own reading of the metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"

namespace lcrun::testing {

enum class RefScaling : uint8_t { kNone, kLinear, kYarn };
enum class RefGate : uint8_t { kSoftmax, kSoftmaxOfChosen, kSigmoid };

struct RefLayer {
  bool attends = true;  // else a recurrence
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t window = 0;  // keys seen, the query's own included; 0 = all
  bool rope = true;
  double rope_base = 10000.0;
  bool rope_scaled = true;
};

struct RefConfig {
  std::string arch;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t k_dim = 0;
  int64_t v_dim = 0;
  bool layer_norm = false;
  double eps = 1e-5;
  bool gelu = false;
  bool parallel = false;
  bool qk_norm_full = false;  // one norm over all heads
  bool q_gate = false;
  bool tied = false;
  std::string ffn_norm = "ffn_norm";
  double embed_scale = 1.0;
  double residual_scale = 1.0;
  double logit_scale = 1.0;
  double attn_scale = 0.0;
  double attn_cap = 0.0;
  double logit_cap = 0.0;

  bool neox = false;
  int64_t n_rot = 0;
  RefScaling scaling = RefScaling::kNone;
  double rope_factor = 1.0;
  double rope_ctx = 0.0;
  double rope_magnitude = 1.0;
  std::string rope_factors;  // tensor of frequency divisors, or empty

  int64_t n_experts = 0;
  int64_t n_used = 0;
  RefGate gate = RefGate::kSoftmax;
  bool normalize = false;
  bool oai_swiglu = false;  // gpt-oss: clamped, alpha 1.702, up + 1

  int64_t conv_kernel = 0;
  int64_t inner = 0;
  int64_t state = 0;
  int64_t groups = 0;
  int64_t ssm_heads = 0;
  bool tile_keys = false;  // delta: value head j reads key head j % groups, else j / (heads / groups)

  std::vector<RefLayer> layers;
};

RefConfig read_reference_config(const ggufish::ModelFile& file);

}  // namespace lcrun::testing
