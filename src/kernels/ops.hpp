// Elementwise and row operations through the active kernel table. All are single threaded: callers split rows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/kernels/slots.hpp"  // Activation

namespace lcrun::kernels {

// Names of the tables this processor can run, slowest first: of "scalar", "avx2", "avxvnni", "avx512", "avx512vnni",
// "avx512amx", "neon", "neondot".
std::vector<std::string> available_isas();
// Tables built into this binary, whether or not the processor can run them.
std::vector<std::string> built_isas();
// The table in use: the best available, or the one that LCRUN_ISA or set_isa named.
std::string_view active_isa();
// Chooses a table for the whole process; call before models are loaded (tests may call it between products:
// packed weights are the same for all tables). kUnsupported with the list if it is not available.
Status set_isa(std::string_view name);

// y = x / sqrt(mean(x^2) + eps) * weight; weight may be null. x and y may be the same row.
void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y);
// y = (x - mean) / sqrt(var + eps) * weight + bias; weight and bias may be null.
void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y);
// gate = act(gate) * up
void glu(Activation act, float* gate, const float* up, int64_t n);
// x = act(x)
void activate(Activation act, float* x, int64_t n);
// Rotates the first n_rot elements of each of n_heads heads (stride head_dim). cos_sin: n_rot/2 pairs
// {cos, sin} of one position. neox: pairs (i, i + n_rot/2); otherwise (2i, 2i+1).
void rope(float* x, int64_t n_heads, int64_t head_dim, int64_t n_rot, const float* cos_sin, bool neox);
// y += x * scale
void add_scaled(float* y, const float* x, float scale, int64_t n);
// x *= scale
void scale(float* x, float scale, int64_t n);
// x = cap * tanh(x / cap)
void soft_cap(float* x, float cap, int64_t n);
// x = softmax(x) in place (max subtracted; all -inf gives zeros).
void softmax(float* x, int64_t n);
float dot(const float* a, const float* b, int64_t n);
float max_value(const float* x, int64_t n);
// ln sum exp(x), in double.
double log_sum_exp(const float* x, int64_t n);

// --- recurrent steps ---------------------------------------------------------------------------------------------
// Gated delta rule (Yang et al., Gated Delta Networks, arXiv 2412.06464, section 3), one head, one token:
//   S <- exp(g) S;  u = beta (v - k S);  S <- S + k^T u;  o = q S
// state [dk, dv] row-major, q and k [dk], v and o [dv]. beta = 1 and delta = false gives gated linear attention.
void delta_step(float* state, const float* q, const float* k, const float* v, float g, float beta, bool delta,
                int64_t dk, int64_t dv, float* o);
// Mamba-2 (Dao and Gu, arXiv 2405.21060, section 6), one head, one token:
//   h[p, n] <- exp(dt * a) h[p, n] + dt * b[n] * x[p];  y[p] = sum_n c[n] h[p, n] + d * x[p]
void ssm_step(float* state, const float* x, const float* b, const float* c, float dt, float a, float d,
              int64_t head_dim, int64_t d_state, float* y);
// Causal depthwise convolution, one token: history [kernel - 1, channels] (oldest first) is shifted, y = sum_j
// weight[channel, j] * window[j] (+ bias). weight is [channels, kernel] with the newest tap last.
void conv_step(float* history, const float* x, const float* weight, const float* bias, int64_t channels, int64_t kernel,
               float* y);

}  // namespace lcrun::kernels
