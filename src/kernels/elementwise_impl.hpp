// Row operations: norms, activations, rotary positions, softmax. Contracts in ops.hpp, reached through OpSlots.
//
// Sums run over four interleaved vectors and are folded in one fixed order, so that a result depends on the row and
// on n alone. Sums of up to some 10^5 terms stay in float: the 4 * kLanes partial sums keep the error near 1e-6.
#pragma once

#include "src/kernels/simd.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// sum of f(i) over lanes starting at element i; f_part(i, count) must give 0 in lanes past the end.
template <class F, class FPart>
inline float sum_row(int64_t n, F f, FPart f_part) {
  F32 acc[4] = {splat(0.0F), splat(0.0F), splat(0.0F), splat(0.0F)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4; ++j) acc[j] = f(i + j * kLanes, acc[j]);
  }
  for (int64_t j = 0; i + kLanes <= n; i += kLanes, ++j) acc[j] = f(i, acc[j]);
  if (i < n) acc[3] = f_part(i, n - i, acc[3]);
  return reduce_add((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

float dot(const float* a, const float* b, int64_t n) {
  return sum_row(
      n, [&](int64_t i, F32 acc) { return fma(load(a + i), load(b + i), acc); },
      [&](int64_t i, int64_t rest, F32 acc) { return fma(load_part(a + i, rest), load_part(b + i, rest), acc); });
}

float sum(const float* x, int64_t n) {
  return sum_row(
      n, [&](int64_t i, F32 acc) { return acc + load(x + i); },
      [&](int64_t i, int64_t rest, F32 acc) { return acc + load_part(x + i, rest); });
}

float max_value(const float* x, int64_t n) {
  F32 best = splat(-INFINITY);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = vmax(best, load(x + i));
  if (i < n) best = vmax(best, load_part(x + i, n - i, -INFINITY));
  return reduce_max(best);
}

void scale(float* x, float factor, int64_t n) {
  const F32 f = splat(factor);
  map_row(x, x, n, [f](F32 v) { return v * f; });
}

void add_scaled(float* y, const float* x, float factor, int64_t n) {
  const F32 f = splat(factor);
  map_rows(y, x, y, n, [f](F32 a, F32 b) { return fma(b, f, a); });
}

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  const float mean_square = dot(x, x, n) / static_cast<float>(n);
  const F32 inverse = splat(1.0F / std::sqrt(mean_square + eps));
  if (weight == nullptr) {
    map_row(x, y, n, [inverse](F32 v) { return v * inverse; });
  } else {
    map_rows(x, weight, y, n, [inverse](F32 v, F32 w) { return v * inverse * w; });
  }
}

void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y) {
  const float count = static_cast<float>(n);
  const F32 mean = splat(sum(x, n) / count);
  map_row(x, y, n, [mean](F32 v) { return v - mean; });
  const F32 inverse = splat(1.0F / std::sqrt(dot(y, y, n) / count + eps));
  if (weight == nullptr) {
    map_row(y, y, n, [inverse](F32 v) { return v * inverse; });
  } else {
    map_rows(y, weight, y, n, [inverse](F32 v, F32 w) { return v * inverse * w; });
  }
  if (bias != nullptr) map_rows(y, bias, y, n, [](F32 v, F32 b) { return v + b; });
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), Hendrycks and Gimpel, arXiv 1606.08415, section 2
inline F32 gelu_tanh(F32 x) {
  const F32 inner = splat(0.79788456F) * fma(splat(0.044715F) * x * x, x, x);
  return splat(0.5F) * x * (splat(1.0F) + vtanh(inner));
}
inline F32 gelu_erf(F32 x) { return splat(0.5F) * x * (splat(1.0F) + verf(x * splat(0.70710678F))); }
inline F32 relu(F32 x) { return vmax(x, splat(0.0F)); }

// Calls body(f) with the vector function of `act`.
template <class Body>
inline void with_activation(Activation act, Body body) {
  switch (act) {
    case Activation::kSilu:
      return body([](F32 x) { return vsilu(x); });
    case Activation::kGeluTanh:
      return body([](F32 x) { return gelu_tanh(x); });
    case Activation::kGeluErf:
      return body([](F32 x) { return gelu_erf(x); });
    case Activation::kRelu:
      return body([](F32 x) { return relu(x); });
    case Activation::kReluSquared:
      return body([](F32 x) { return relu(x) * relu(x); });
  }
}

void activate(Activation act, float* x, int64_t n) {
  with_activation(act, [=](auto f) { map_row(x, x, n, f); });
}

void glu(Activation act, float* gate, const float* up, int64_t n) {
  with_activation(act, [=](auto f) { map_rows(gate, up, gate, n, [f](F32 g, F32 u) { return f(g) * u; }); });
}

void soft_cap(float* x, float cap, int64_t n) {
  const F32 c = splat(cap);
  const F32 inverse = splat(1.0F / cap);
  map_row(x, x, n, [=](F32 v) { return vsoft_cap(v, c, inverse); });
}

void softmax(float* x, int64_t n) {
  const float top = max_value(x, n);
  if (top == -INFINITY) {
    for (int64_t i = 0; i < n; ++i) x[i] = 0.0F;
    return;
  }
  const F32 shift = splat(top);
  map_row(x, x, n, [shift](F32 v) { return vexp(v - shift); });
  scale(x, 1.0F / sum(x, n), n);
}

// Sum in double over pieces of 512 terms, so that vocabularies of 10^5 and more lose nothing.
double sum_exp(const float* x, float shift, int64_t n) {
  constexpr int64_t kPiece = 512;
  const F32 s = splat(shift);
  double total = 0.0;
  for (int64_t start = 0; start < n; start += kPiece) {
    const float* piece = x + start;
    const int64_t count = n - start < kPiece ? n - start : kPiece;
    total += static_cast<double>(sum_row(
        count, [&](int64_t i, F32 acc) { return acc + vexp(load(piece + i) - s); },
        [&](int64_t i, int64_t rest, F32 acc) { return acc + vexp(load_part(piece + i, rest, -INFINITY) - s); }));
  }
  return total;
}

// Pairs (i, i + n_rot / 2): both halves are contiguous, the {cos, sin} pairs are split once for all heads.
void rope_neox(float* x, int64_t n_heads, int64_t head_dim, int64_t n_rot, const float* cos_sin) {
  constexpr int64_t kChunk = 64;
  const int64_t half = n_rot / 2;
  float cosines[kChunk];
  float sines[kChunk];
  for (int64_t start = 0; start < half; start += kChunk) {
    const int64_t count = half - start < kChunk ? half - start : kChunk;
    for (int64_t i = 0; i < count; ++i) {
      cosines[i] = cos_sin[2 * (start + i)];
      sines[i] = cos_sin[2 * (start + i) + 1];
    }
    for (int64_t head = 0; head < n_heads; ++head) {
      float* low = x + head * head_dim + start;
      float* high = low + half;
      int64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) {
        const F32 a = load(low + i), b = load(high + i), c = load(cosines + i), s = load(sines + i);
        store(low + i, a * c - b * s);
        store(high + i, a * s + b * c);
      }
      for (; i < count; ++i) {
        const float a = low[i], b = high[i];
        low[i] = a * cosines[i] - b * sines[i];
        high[i] = a * sines[i] + b * cosines[i];
      }
    }
  }
}

void rope(float* x, int64_t n_heads, int64_t head_dim, int64_t n_rot, const float* cos_sin, bool neox) {
  if (neox) return rope_neox(x, n_heads, head_dim, n_rot, cos_sin);
  for (int64_t head = 0; head < n_heads; ++head) {
    float* row = x + head * head_dim;
    for (int64_t i = 0; i + 1 < n_rot; i += 2) {
      const float a = row[i], b = row[i + 1];
      row[i] = a * cos_sin[i] - b * cos_sin[i + 1];
      row[i + 1] = a * cos_sin[i + 1] + b * cos_sin[i];
    }
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
