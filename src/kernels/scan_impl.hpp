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

// kWidth vectors of columns at a time: the first sweep decays S and gathers k S, the second adds k^T u and gathers
// q S. A strip of S (dk * kWidth vectors) stays in the first-level cache between the two.
template <int64_t kWidth>
inline void delta_strip(float* state, const float* q, const float* k, const float* v, float decay, float beta,
                        bool delta, int64_t dk, int64_t dv, float* o) {
  F32 seen[kWidth];
  for (int64_t j = 0; j < kWidth; ++j) seen[j] = splat(0.0F);
  const F32 d = splat(decay);
  for (int64_t i = 0; i < dk; ++i) {
    float* row = state + i * dv;
    const F32 key = splat(k[i]);
    for (int64_t j = 0; j < kWidth; ++j) {
      const F32 s = load(row + j * kLanes) * d;
      store(row + j * kLanes, s);
      seen[j] = fma(key, s, seen[j]);
    }
  }
  F32 u[kWidth];
  F32 out[kWidth];
  for (int64_t j = 0; j < kWidth; ++j) {
    const F32 value = load(v + j * kLanes);
    u[j] = splat(beta) * (delta ? value - seen[j] : value);
    out[j] = splat(0.0F);
  }
  for (int64_t i = 0; i < dk; ++i) {
    float* row = state + i * dv;
    const F32 key = splat(k[i]);
    const F32 query = splat(q[i]);
    for (int64_t j = 0; j < kWidth; ++j) {
      const F32 s = fma(key, u[j], load(row + j * kLanes));
      store(row + j * kLanes, s);
      out[j] = fma(query, s, out[j]);
    }
  }
  for (int64_t j = 0; j < kWidth; ++j) store(o + j * kLanes, out[j]);
}

inline void delta_column(float* state, const float* q, const float* k, float v, float decay, float beta,
                         bool delta, int64_t dk, int64_t dv, float* o) {
  float seen = 0.0F;
  for (int64_t i = 0; i < dk; ++i) {
    state[i * dv] *= decay;
    seen += k[i] * state[i * dv];
  }
  const float u = beta * (delta ? v - seen : v);
  float out = 0.0F;
  for (int64_t i = 0; i < dk; ++i) {
    state[i * dv] += k[i] * u;
    out += q[i] * state[i * dv];
  }
  *o = out;
}

void delta_step(float* state, const float* q, const float* k, const float* v, float g, float beta, bool delta,
                int64_t dk, int64_t dv, float* o) {
  const float decay = std::exp(g);
  int64_t c = 0;
  for (; c + 4 * kLanes <= dv; c += 4 * kLanes) {
    delta_strip<4>(state + c, q, k, v + c, decay, beta, delta, dk, dv, o + c);
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

// One chunk of channels: the taps of a channel are `kernel` apart, so weights are gathered into rows of taps first.
void conv_step(float* history, const float* x, const float* weight, const float* bias, int64_t channels,
               int64_t kernel, float* y) {
  for (int64_t start = 0; start < channels; start += kLanes) {
    const int64_t count = channels - start < kLanes ? channels - start : kLanes;
    F32 acc = bias != nullptr ? load_part(bias + start, count) : splat(0.0F);
    const F32 newest = load_part(x + start, count);
    float taps[kLanes];
    for (int64_t j = 0; j < kernel; ++j) {
      for (int64_t i = 0; i < kLanes; ++i) taps[i] = i < count ? weight[(start + i) * kernel + j] : 0.0F;
      const bool is_last = j + 1 == kernel;
      const F32 window = is_last ? newest : load_part(history + j * channels + start, count);
      acc = fma(load(taps), window, acc);
      if (j > 0) store_part(history + (j - 1) * channels + start, window, count);
    }
    store_part(y + start, acc, count);
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
