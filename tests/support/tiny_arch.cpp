// The rows of tiny_arch.hpp. A new architecture of src/model/arch needs one here; the tests pick it up.
#include "tests/support/tiny_arch.hpp"

#include <array>

namespace lcrun::testing {
namespace {

constexpr std::array kRows = {
    TinyArch{.name = "llama"},
    TinyArch{.name = "smollm3"},
    TinyArch{.name = "qwen2", .qkv_bias = true},
    TinyArch{.name = "qwen3", .qk_norm = TinyQkNorm::kHead},
    TinyArch{.name = "qwen3moe", .qk_norm = TinyQkNorm::kHead, .moe = true},
    TinyArch{.name = "qwen2moe",
             .qkv_bias = true,
             .moe = true,
             .shared_expert = true,
             .shared_gate = true,
             .output_optional = false},
    TinyArch{.name = "gemma", .own_output = false},
    TinyArch{.name = "gemma2", .post_norms = true, .own_output = false, .window_pattern = 2},
    TinyArch{.name = "gemma3", .post_norms = true, .qk_norm = TinyQkNorm::kHead, .window_pattern = 6},
    TinyArch{.name = "phi3", .fused_qkv = true, .ffn = TinyFfn::kFusedGateUp, .window_pattern = 1},
    TinyArch{.name = "granite"},
    TinyArch{.name = "granitemoe", .moe = true, .shared_expert = true},
    TinyArch{.name = "olmo2",
             .attn_norm = false,
             .ffn_norm = nullptr,
             .post_norms = true,
             .qk_norm = TinyQkNorm::kFull,
             .output_optional = false,
             .window_pattern = 4},
    TinyArch{.name = "olmoe", .qk_norm = TinyQkNorm::kFull, .moe = true, .output_optional = false},
    TinyArch{.name = "starcoder2",
             .layer_norm = true,
             .norm_bias = true,
             .qkv_bias = true,
             .out_bias = true,
             .ffn_bias = true,
             .ffn = TinyFfn::kPlain},
    TinyArch{.name = "stablelm",
             .layer_norm = true,
             .norm_bias = true,
             .qk_norm = TinyQkNorm::kEach,
             .output_optional = false,
             .half_rope = true},
    TinyArch{.name = "internlm2", .output_optional = false},
    TinyArch{.name = "glm4", .post_norms = true, .qkv_bias = true, .ffn = TinyFfn::kFusedGateUp, .half_rope = true},
    TinyArch{.name = "cohere2", .layer_norm = true, .ffn_norm = nullptr, .own_output = false, .window_pattern = 4},
    TinyArch{.name = "gpt-oss",
             .ffn_norm = "post_attention_norm",
             .qkv_bias = true,
             .out_bias = true,
             .ffn = TinyFfn::kNone,
             .moe = true,
             .expert_bias = true,
             .output_optional = false,
             .window_pattern = 2,
             .sinks = true},
    TinyArch{.name = "mamba2", .ffn_norm = nullptr, .ffn = TinyFfn::kNone, .mixer = TinyMixer::kMamba2},
    TinyArch{.name = "qwen3next",
             .ffn_norm = "post_attention_norm",
             .qk_norm = TinyQkNorm::kHead,
             .moe = true,
             .shared_expert = true,
             .shared_gate = true,
             .q_gate = true,
             .half_rope = true,
             .mixer = TinyMixer::kDelta},
    TinyArch{.name = "qwen35",
             .ffn_norm = "post_attention_norm",
             .qk_norm = TinyQkNorm::kHead,
             .q_gate = true,
             .half_rope = true,
             .mixer = TinyMixer::kDelta,
             .split_beta_alpha = true},
    TinyArch{.name = "qwen35moe",
             .ffn_norm = "post_attention_norm",
             .qk_norm = TinyQkNorm::kHead,
             .moe = true,
             .shared_expert = true,
             .shared_gate = true,
             .q_gate = true,
             .half_rope = true,
             .mixer = TinyMixer::kDelta,
             .split_beta_alpha = true},
    TinyArch{.name = "minicpm"},
};

// Chosen so that each of them changes the logits visibly.
constexpr std::array kFloats = {
    TinyFloat{"gemma2", "attn_logit_softcapping", 2.0F}, TinyFloat{"gemma2", "final_logit_softcapping", 1.5F},
    TinyFloat{"gemma3", "rope.freq_base", 1000000.0F},   TinyFloat{"granite", "logit_scale", 2.0F},
    TinyFloat{"granite", "residual_scale", 0.5F},        TinyFloat{"granite", "embedding_scale", 4.0F},
    TinyFloat{"granite", "attention.scale", 0.2F},       TinyFloat{"granitemoe", "logit_scale", 2.0F},
    TinyFloat{"granitemoe", "residual_scale", 0.5F},     TinyFloat{"granitemoe", "embedding_scale", 4.0F},
    TinyFloat{"granitemoe", "attention.scale", 0.2F},    TinyFloat{"minicpm", "logit_scale", 2.0F},
    TinyFloat{"minicpm", "residual_scale", 0.6F},        TinyFloat{"minicpm", "embedding_scale", 3.0F},
    TinyFloat{"cohere2", "logit_scale", 0.5F},           TinyFloat{"qwen3next", "rope.freq_base", 500000.0F},
};

}  // namespace

std::span<const TinyArch> tiny_arch_rows() { return kRows; }
std::span<const TinyFloat> tiny_float_keys() { return kFloats; }

const TinyArch* find_tiny_arch(std::string_view name) {
  for (const TinyArch& row : kRows) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

}  // namespace lcrun::testing
