// Recurrent steps, one token of one head: gated delta rule, Mamba-2, causal convolution. Contracts in ops.hpp.
//
// Lanes run over dv (delta), d_state (ssm) and channels (conv), so that state rows are read and written once, in
// order. Every lane has its own chain of operations: results do not depend on the vector length, but for the fused
// multiply-adds and the folding of ssm's sum over d_state.
#pragma once

#include "src/kernels/elementwise_impl.hpp"
#include "src/kernels/simd.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// kWidth vectors of columns at a time. The first sweep only reads: k (exp(g) S) = exp(g) (k S). The second writes S
// and gathers q S; it runs backwards, because a state of 128 x 128 is larger than a first-level cache and its last
// rows are the ones still there.
template <int64_t kWidth>
inline void delta_strip(float* state, const float* q, const float* k, const float* v, float decay, float beta,
                        bool delta, int64_t dk, int64_t dv, float* o) {
  const F32 d = splat(decay);
  F32 u[kWidth];
  F32 out[kWidth];
  for (int64_t j = 0; j < kWidth; ++j) u[j] = out[j] = splat(0.0F);
  for (int64_t i = 0; delta && i < dk; ++i) {
    const F32 key = splat(k[i]);
    for (int64_t j = 0; j < kWidth; ++j) u[j] = fma(key, load(state + i * dv + j * kLanes), u[j]);
  }
  for (int64_t j = 0; j < kWidth; ++j) u[j] = splat(beta) * (load(v + j * kLanes) - d * u[j]);
  for (int64_t i = dk - 1; i >= 0; --i) {
    float* row = state + i * dv;
    const F32 key = splat(k[i]);
    const F32 query = splat(q[i]);
    for (int64_t j = 0; j < kWidth; ++j) {
      const F32 s = fma(key, u[j], load(row + j * kLanes) * d);
      store(row + j * kLanes, s);
      out[j] = fma(query, s, out[j]);
    }
  }
  for (int64_t j = 0; j < kWidth; ++j) store(o + j * kLanes, out[j]);
}

inline void delta_column(float* state, const float* q, const float* k, float v, float decay, float beta, bool delta,
                         int64_t dk, int64_t dv, float* o) {
  float seen = 0.0F;
  for (int64_t i = 0; delta && i < dk; ++i) seen += k[i] * state[i * dv];
  const float u = beta * (v - decay * seen);
  float out = 0.0F;
  for (int64_t i = dk - 1; i >= 0; --i) {
    state[i * dv] = k[i] * u + state[i * dv] * decay;
    out += q[i] * state[i * dv];
  }
  *o = out;
}

void delta_step(float* state, const float* q, const float* k, const float* v, float g, float beta, bool delta,
                int64_t dk, int64_t dv, float* o) {
  constexpr int64_t kWide = kManyRegisters ? 8 : 4;
  const float decay = std::exp(g);
  int64_t c = 0;
  for (; c + kWide * kLanes <= dv; c += kWide * kLanes) {
    delta_strip<kWide>(state + c, q, k, v + c, decay, beta, delta, dk, dv, o + c);
  }
  for (; c + kLanes <= dv; c += kLanes) {
    delta_strip<1>(state + c, q, k, v + c, decay, beta, delta, dk, dv, o + c);
  }
  for (; c < dv; ++c) delta_column(state + c, q, k, v[c], decay, beta, delta, dk, dv, o + c);
}

void ssm_step(float* state, const float* x, const float* b, const float* c, float dt, float a, float d,
              int64_t head_dim, int64_t d_state, float* y) {
  const F32 decay = splat(std::exp(dt * a));
  for (int64_t p = 0; p < head_dim; ++p) {
    float* h = state + p * d_state;
    const F32 input = splat(dt * x[p]);
    const float sum = sum_row(
        d_state,
        [&](int64_t i, F32 acc) {
          const F32 next = fma(load(b + i), input, load(h + i) * decay);
          store(h + i, next);
          return fma(load(c + i), next, acc);
        },
        [&](int64_t i, int64_t rest, F32 acc) {
          const F32 next = fma(load_part(b + i, rest), input, load_part(h + i, rest) * decay);
          store_part(h + i, next, rest);
          return fma(load_part(c + i, rest), next, acc);
        });
    y[p] = sum + d * x[p];
  }
}

// A vector of channels from `c` on; the taps of a channel are neighbours, so those of kLanes channels are strided.
inline void conv_channels(float* history, const float* x, const float* weight, const float* bias, int64_t c,
                          int64_t channels, int64_t kernel, float* y) {
  const float* taps = weight + c * kernel;
  F32 acc = bias != nullptr ? load(bias + c) : splat(0.0F);
  for (int64_t j = 0; j + 1 < kernel; ++j) {
    const F32 window = load(history + j * channels + c);
    acc = fma(load_strided(taps + j, kernel), window, acc);
    if (j > 0) store(history + (j - 1) * channels + c, window);
  }
  const F32 newest = load(x + c);
  if (kernel > 1) store(history + (kernel - 2) * channels + c, newest);
  store(y + c, fma(load_strided(taps + kernel - 1, kernel), newest, acc));
}

inline void conv_channel(float* history, const float* x, const float* weight, const float* bias, int64_t c,
                         int64_t channels, int64_t kernel, float* y) {
  const float* taps = weight + c * kernel;
  float acc = bias != nullptr ? bias[c] : 0.0F;
  for (int64_t j = 0; j + 1 < kernel; ++j) {
    const float window = history[j * channels + c];
    acc += taps[j] * window;
    if (j > 0) history[(j - 1) * channels + c] = window;
  }
  if (kernel > 1) history[(kernel - 2) * channels + c] = x[c];
  y[c] = acc + taps[kernel - 1] * x[c];
}

void conv_step(float* history, const float* x, const float* weight, const float* bias, int64_t channels, int64_t kernel,
               float* y) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) conv_channels(history, x, weight, bias, c, channels, kernel, y);
  for (; c < channels; ++c) conv_channel(history, x, weight, bias, c, channels, kernel, y);
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
