// Hyper-parameters of a model as numbers, filled from metadata by its ArchSpec (arch.hpp).
//
// Variation between architectures is data in here; there is no `if (arch == ...)` outside src/model/arch/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::model {

enum class NormKind : uint8_t { kRms, kLayer };

// Where a block's norms stand: before it, after it (of what it adds), or both.
enum class NormPlacement : uint8_t { kBefore, kAfter, kBoth };

// One rotary embedding: Su et al., RoFormer, arXiv 2104.09864; scalings as the GGUF keys <arch>.rope.* give them.
struct RopeSpec {
  enum class Scaling : uint8_t { kNone, kLinear, kYarn, kLlama3Factors };
  int64_t n_rot = 0;  // rotated elements of a head (even; the first ones)
  double base = 10000.0;
  bool neox = false;  // pairs (i, i + n_rot/2) instead of (2i, 2i+1)
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;     // context extension: linear divides positions by it
  int64_t n_ctx_orig = 0;  // yarn: trained context
  double yarn_ext_factor = 1.0;
  double yarn_attn_factor = 1.0;
  double yarn_beta_fast = 32.0;
  double yarn_beta_slow = 1.0;
  double attn_factor = 1.0;              // multiplies cos and sin (phi3 long factors, yarn)
  std::vector<float> freq_factors;       // [n_rot / 2] divisors of the frequencies, empty = all 1
  std::vector<float> freq_factors_long;  // phi3: used when the context is longer than n_ctx_orig
};

struct MoeConfig {
  enum class Gate : uint8_t { kSoftmax, kSoftmaxOfChosen, kSigmoid };
  int64_t n_experts = 0;
  int64_t n_used = 0;
  int64_t d_ff = 0;         // of one expert
  int64_t d_ff_shared = 0;  // of the shared expert, 0 = none
  Gate gate = Gate::kSoftmax;
  bool normalize = false;    // divide the chosen weights by their sum
  bool shared_gate = false;  // the shared expert is weighted by a sigmoid of its own
  float scale = 1.0F;
};

struct SsmConfig {
  int64_t conv_kernel = 0;
  int64_t d_inner = 0;
  int64_t d_state = 0;
  int64_t n_groups = 0;
  int64_t n_heads = 0;     // time_step_rank in the metadata
  bool tile_keys = false;  // gated delta: value head j reads key head j mod n_groups, else j / (n_heads / n_groups)
};

struct LayerConfig {
  std::string mixer = "attention";  // a name of the mixer registry (mixer.hpp)
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t k_dim = 0;  // of one head
  int64_t v_dim = 0;
  int64_t window = 0;  // keys a query sees, itself included; 0 = all
  int32_t rope = 0;    // index into ModelConfig::ropes; -1 = no positions (NoPE)
  bool has_ffn = true;
  bool is_moe = false;
  int64_t d_ff = 0;
};

struct ModelConfig {
  std::string arch;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t n_vocab = 0;
  int64_t n_ctx_train = 0;
  NormKind norm = NormKind::kRms;
  NormPlacement norm_placement = NormPlacement::kBefore;
  float norm_eps = 1e-5F;
  kernels::Activation activation = kernels::Activation::kSilu;
  bool parallel_ffn = false;    // attention and FFN read the same normed input (cohere2)
  float embed_scale = 1.0F;     // multiplies embeddings
  float residual_scale = 1.0F;  // multiplies what a block adds
  float attn_scale = 0.0F;      // of q k^T; 0 = 1/sqrt(k_dim)
  float attn_soft_cap = 0.0F;
  float logit_scale = 1.0F;
  float logit_soft_cap = 0.0F;
  bool plain_ffn = false;             // no gate: the activation of ffn_up alone (starcoder2)
  float swiglu_limit = 0.0F;          // gpt-oss: clamp; 0 = plain GLU
  float swiglu_alpha = 1.0F;          // gpt-oss: slope of the sigmoid inside
  bool q_gate = false;                // each head's query is followed by a gate: output times sigmoid(gate)
  bool head_norms = false;            // q and k norms have a weight of their own for each head (stablelm)
  bool needs_qk_norms = false;        // a file without them is refused; else they are used when there are any
  bool needs_sinks = false;           // the same for attention sinks
  std::string ffn_norm = "ffn_norm";  // tensor of the norm before the FFN
  std::vector<RopeSpec> ropes;
  std::vector<LayerConfig> layers;
  MoeConfig moe;
  SsmConfig ssm;
};

}  // namespace lcrun::model
