// What several architectures read in the same way, beyond read_common(): used by the files of src/model/arch.
#pragma once

#include <string_view>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/model/config.hpp"

namespace lcrun::model {

// All ropes rotate pairs (i, i + n_rot/2).
void use_neox_rope(ModelConfig& config);

// <arch>.<suffix> as a finite number (kBadModel otherwise); `fallback` when absent.
Result<float> scale_or(const ggufish::ModelFile& file, const ModelConfig& config, std::string_view suffix,
                       double fallback);
// The same, and it must be above 0 (something is divided by it, or raised to a power).
Result<float> positive_or(const ggufish::ModelFile& file, const ModelConfig& config, std::string_view suffix,
                          double fallback);

// Sets LayerConfig::window from <arch>.attention.sliding_window (`fallback` when absent; 0 = no window layers) and
// its pattern: the key attention.sliding_window_pattern (flags, or a period), else `period`. Of each period the last
// layer is global; period 0 means that every layer is a window layer.
Status read_windows(const ggufish::ModelFile& file, ModelConfig& config, int64_t period, int64_t fallback);

// Layers that predict further tokens (multi-token prediction) stand last in the file and are left out.
Status drop_predict_layers(const ggufish::ModelFile& file, ModelConfig& config);

// Hybrid models: gives recurrent layers `mixer`; by <arch>.attention.recurrent_layers (flags), else all but the last
// of each full_attention_interval (4).
Status read_recurrent_layers(const ggufish::ModelFile& file, ModelConfig& config, const char* mixer);

// Qwen3-Next and the Qwen 3.5 family: gated delta layers, gated attention in every fourth.
Status configure_qwen_hybrid(const ggufish::ModelFile& file, ModelConfig& config);

// The Granite family: scales on embeddings, attention, residual branches and logits; NoPE where a key says so.
Status configure_granite(const ggufish::ModelFile& file, ModelConfig& config);

// kBadModel unless the model has experts.
Status require_experts(const ggufish::ModelFile& file, const ModelConfig& config);

}  // namespace lcrun::model
