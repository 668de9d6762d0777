// What distinguishes the files of one architecture from another's, as data: one row each (tiny_arch.cpp).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace lcrun::testing {

enum class TinyQkNorm : uint8_t { kNone, kHead, kFull, kEach };  // one weight per head size, all heads, each head
enum class TinyFfn : uint8_t { kGated, kPlain, kFusedGateUp, kNone };
enum class TinyMixer : uint8_t { kAttention, kMamba2, kDelta };  // kDelta: every fourth layer attends

struct TinyArch {
  const char* name;
  bool layer_norm = false;  // else RMS
  bool norm_bias = false;
  bool attn_norm = true;
  const char* ffn_norm = "ffn_norm";  // null: none
  bool post_norms = false;            // post_attention_norm and post_ffw_norm
  bool fused_qkv = false;
  bool qkv_bias = false;
  bool out_bias = false;
  bool ffn_bias = false;
  TinyQkNorm qk_norm = TinyQkNorm::kNone;
  TinyFfn ffn = TinyFfn::kGated;
  bool moe = false;
  bool shared_expert = false;
  bool shared_gate = false;
  bool expert_bias = false;
  bool own_output = true;       // the format has output.weight
  bool output_optional = true;  // and may leave it out
  int window_pattern = 0;       // 0: no window key
  bool sinks = false;
  bool q_gate = false;
  bool half_rope = false;  // rotates half of the head
  TinyMixer mixer = TinyMixer::kAttention;
  bool split_beta_alpha = false;  // delta: ssm_beta and ssm_alpha instead of ssm_ba
};

// Scalar keys that one architecture adds ("<arch>.<suffix>" = value).
struct TinyFloat {
  const char* arch;
  const char* suffix;
  float value;
};

std::span<const TinyArch> tiny_arch_rows();
const TinyArch* find_tiny_arch(std::string_view name);
std::span<const TinyFloat> tiny_float_keys();

}  // namespace lcrun::testing
