// Least-squares scale search: see fit.hpp for what is minimised and why.
#include "quant/fit.hpp"

#include <algorithm>
#include <cmath>

#include "quant/half.hpp"

namespace lcrun::quant {
namespace {

constexpr float kMaxHalf = 65504.0f;

// To nearest, ties to even, for |v| < 2^22; plain arithmetic, so that loops over it vectorise.
inline float round_small(float v) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (v + kMagic) - kMagic;
}

// The level in [low, high] nearest to v.
inline float level_of(float v, float low, float high) { return round_small(std::min(std::max(v, low), high)); }

uint16_t to_half(float v) { return f32_to_f16(std::min(std::max(v, -kMaxHalf), kMaxHalf)); }

float inverse(float scale) { return scale != 0.0f ? 1.0f / scale : 0.0f; }

// x ~ scale * q with q in [low, high].
struct Scale {
  float scale = 0.0f;
  float gain = 0.0f;  // how much of sum x^2 it explains
};

Scale refit(const float* x, int n, float low, float high, float scale) {
  const float inv = inverse(scale);
  float xq = 0.0f;
  float qq = 0.0f;
  for (int i = 0; i < n; ++i) {
    const float q = level_of(x[i] * inv, low, high);
    xq += x[i] * q;
    qq += q * q;
  }
  return qq > 0.0f ? Scale{xq / qq, xq * xq / qq} : Scale{};
}

// `zero` levels below zero and `top` above: the extreme value may map to either end.
Scale search_scale(const float* x, int n, int zero, int top) {
  float extreme = 0.0f;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  Scale best;
  if (extreme == 0.0f) return best;
  const auto low = static_cast<float>(-zero);
  const auto high = static_cast<float>(top);
  for (int step = -4; step <= 6; ++step) {
    const float stretch = 0.25f * static_cast<float>(step);
    for (const float end : {low - stretch, high + stretch}) {
      const Scale found = refit(x, n, low, high, extreme / end);
      if (found.gain > best.gain) best = found;
    }
  }
  const Scale again = refit(x, n, low, high, best.scale);
  return again.gain > best.gain ? again : best;
}

// x ~ scale * code + offset.
struct Affine {
  float scale = 0.0f;
  float offset = 0.0f;
  float error = 0.0f;  // sum of squares left
};

// `offset_below_zero`: the offset must not be positive.
Affine refit_affine(const float* x, int n, int max_code, bool offset_below_zero, const Affine& from) {
  const float inv = inverse(from.scale);
  float q1 = 0.0f, q2 = 0.0f, x1 = 0.0f, x2 = 0.0f, xq = 0.0f;
  for (int i = 0; i < n; ++i) {
    const float q = level_of((x[i] - from.offset) * inv, 0.0f, static_cast<float>(max_code));
    q1 += q;
    q2 += q * q;
    x1 += x[i];
    x2 += x[i] * x[i];
    xq += x[i] * q;
  }
  const auto count = static_cast<float>(n);
  const float det = count * q2 - q1 * q1;  // exact: integers below 2^24
  Affine fit;
  if (det > 0.0f) {
    fit.scale = (count * xq - q1 * x1) / det;
    fit.offset = (x1 - fit.scale * q1) / count;
  } else {
    fit.offset = x1 / count - from.scale * q1 / count;
    fit.scale = from.scale;
  }
  if (offset_below_zero && fit.offset > 0.0f) {
    fit.offset = 0.0f;
    fit.scale = q2 > 0.0f ? xq / q2 : 0.0f;
  }
  fit.error = x2 - 2.0f * fit.scale * xq - 2.0f * fit.offset * x1 + fit.scale * fit.scale * q2 +
              2.0f * fit.scale * fit.offset * q1 + fit.offset * fit.offset * count;
  return fit;
}

Affine search_affine(const float* x, int n, int max_code, bool offset_below_zero) {
  float low = *std::min_element(x, x + n);
  float high = *std::max_element(x, x + n);
  if (offset_below_zero) {
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
  }
  if (high == low) return {0.0f, low, 0.0f};
  Affine best;
  for (int step = -2; step <= 6; ++step) {
    const float stretch = 0.25f * static_cast<float>(step);
    Affine guess;
    guess.scale = (high - low) / (static_cast<float>(max_code) + stretch);
    // What is clipped is clipped on both sides, unless the low side is pinned to zero.
    guess.offset = low + (low < 0.0f || !offset_below_zero ? 0.5f * stretch * guess.scale : 0.0f);
    if (offset_below_zero) guess.offset = std::min(guess.offset, 0.0f);
    const Affine found = refit_affine(x, n, max_code, offset_below_zero, guess);
    if (step == -2 || found.error < best.error) best = found;
  }
  const Affine again = refit_affine(x, n, max_code, offset_below_zero, best);
  return again.error < best.error ? again : best;
}

// Codes of one sub-block for given scale and offset, and the error they leave.
float take_codes(const float* x, int n, float scale, float offset, int zero, int max_code, uint8_t* codes) {
  const float inv = inverse(scale);
  const auto low = static_cast<float>(-zero);
  const auto high = static_cast<float>(max_code - zero);
  float error = 0.0f;
  for (int i = 0; i < n; ++i) {
    const float q = level_of((x[i] - offset) * inv, low, high);
    const float left = x[i] - (scale * q + offset);
    error += left * left;
    if (codes != nullptr) codes[i] = static_cast<uint8_t>(static_cast<int>(q) + zero);
  }
  return error;
}

// The pair of integers next to (sub, sub_offset) that leaves the least error.
void improve_pair(const float* x, int max_code, float d, float dmin, uint8_t& sub, uint8_t& sub_offset) {
  const int sub_from = sub;
  const int offset_from = sub_offset;
  float least = -1.0f;
  for (int s = std::max(0, sub_from - 1); s <= std::min(63, sub_from + 1); ++s) {
    for (int m = std::max(0, offset_from - 1); m <= std::min(63, offset_from + 1); ++m) {
      const float error =
          take_codes(x, 32, d * static_cast<float>(s), -(dmin * static_cast<float>(m)), 0, max_code, nullptr);
      if (least >= 0.0f && error >= least) continue;
      least = error;
      sub = static_cast<uint8_t>(s);
      sub_offset = static_cast<uint8_t>(m);
    }
  }
}

// Codes of all eight sub-blocks with the stored (rounded) d and m; returns the error.
float take_super_offset(const float* x, int max_code, Unpacked& out) {
  const float d = f16_to_f32(out.d);
  const float dmin = f16_to_f32(out.m);
  float error = 0.0f;
  for (int j = 0; j < 8; ++j) {
    error += take_codes(x + 32 * j, 32, d * static_cast<float>(out.sub[j]),
                        -(dmin * static_cast<float>(out.sub_offset[j])), 0, max_code, out.codes + 32 * j);
  }
  return error;
}

// d and dmin that fit the codes best, all else kept: least squares in two unknowns.
void refit_super_offset(const float* x, Unpacked& out) {
  double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
  for (int i = 0; i < 256; ++i) {
    const double a = static_cast<double>(out.sub[i / 32]) * out.codes[i];
    const double b = -static_cast<double>(out.sub_offset[i / 32]);
    aa += a * a;
    ab += a * b;
    bb += b * b;
    xa += a * static_cast<double>(x[i]);
    xb += b * static_cast<double>(x[i]);
  }
  const double det = aa * bb - ab * ab;
  if (det > 1e-6 * aa * bb) {
    out.d = to_half(static_cast<float>((xa * bb - xb * ab) / det));
    out.m = to_half(static_cast<float>((xb * aa - xa * ab) / det));
  } else if (aa > 0) {
    out.d = to_half(static_cast<float>((xa - ab * static_cast<double>(f16_to_f32(out.m))) / aa));
  }
}

float take_super(const float* x, int zero, int max_code, Unpacked& out) {
  const float d = f16_to_f32(out.d);
  float error = 0.0f;
  for (int j = 0; j < 16; ++j) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(out.sub[j]));
    error += take_codes(x + 16 * j, 16, scale, 0.0f, zero, max_code, out.codes + 16 * j);
  }
  return error;
}

void refit_super(const float* x, int zero, Unpacked& out) {
  double aa = 0, xa = 0;
  for (int i = 0; i < 256; ++i) {
    const double a = static_cast<double>(static_cast<int8_t>(out.sub[i / 16])) * (out.codes[i] - zero);
    aa += a * a;
    xa += a * static_cast<double>(x[i]);
  }
  if (aa > 0) out.d = to_half(static_cast<float>(xa / aa));
}

}  // namespace

uint16_t fit_half(const float* x, int n, int zero, int max_code, uint8_t* codes) {
  const uint16_t d = to_half(search_scale(x, n, zero, max_code - zero).scale);
  take_codes(x, n, f16_to_f32(d), 0.0f, zero, max_code, codes);
  return d;
}

uint16_t fit_half_absmax(const float* x, int n, int max_q, int8_t* q) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  const uint16_t d = to_half(largest / static_cast<float>(max_q));
  const float inv = inverse(f16_to_f32(d));
  const auto top = static_cast<float>(max_q);
  for (int i = 0; i < n; ++i) q[i] = static_cast<int8_t>(level_of(x[i] * inv, -top, top));
  return d;
}

HalfPair fit_half_offset(const float* x, int n, int max_code, uint8_t* codes) {
  const Affine fit = search_affine(x, n, max_code, false);
  const HalfPair stored{to_half(fit.scale), to_half(fit.offset)};
  take_codes(x, n, f16_to_f32(stored.d), f16_to_f32(stored.m), 0, max_code, codes);
  return stored;
}

void fit_super_offset(const float* x, int max_code, Unpacked& out) {
  Affine fits[8];
  float scale_max = 0.0f;
  float offset_max = 0.0f;
  for (int j = 0; j < 8; ++j) {
    fits[j] = search_affine(x + 32 * j, 32, max_code, true);
    scale_max = std::max(scale_max, fits[j].scale);
    offset_max = std::max(offset_max, -fits[j].offset);
  }
  out.d = to_half(scale_max / 63.0f);
  out.m = to_half(offset_max / 63.0f);
  const float d = f16_to_f32(out.d);
  const float dmin = f16_to_f32(out.m);
  for (int j = 0; j < 8; ++j) {
    out.sub[j] = static_cast<uint8_t>(level_of(fits[j].scale * inverse(d), 0.0f, 63.0f));
    out.sub_offset[j] = static_cast<uint8_t>(level_of(-fits[j].offset * inverse(dmin), 0.0f, 63.0f));
    improve_pair(x + 32 * j, max_code, d, dmin, out.sub[j], out.sub_offset[j]);
  }
  const float error = take_super_offset(x, max_code, out);
  Unpacked again = out;
  refit_super_offset(x, again);
  if (take_super_offset(x, max_code, again) < error) out = again;
}

void fit_super(const float* x, int zero, int max_code, Unpacked& out) {
  Scale fits[16];
  float scale_max = 0.0f;
  for (int j = 0; j < 16; ++j) {
    fits[j] = search_scale(x + 16 * j, 16, zero, max_code - zero);
    scale_max = std::max(scale_max, std::fabs(fits[j].scale));
  }
  out.d = to_half(scale_max / 127.0f);
  const float d = f16_to_f32(out.d);
  for (int j = 0; j < 16; ++j) {
    const auto from = static_cast<int>(level_of(fits[j].scale * inverse(d), -127.0f, 127.0f));
    int best = from;
    float least = -1.0f;
    for (int s = std::max(-127, from - 1); s <= std::min(127, from + 1); ++s) {
      const float error = take_codes(x + 16 * j, 16, d * static_cast<float>(s), 0.0f, zero, max_code, nullptr);
      if (least >= 0.0f && error >= least) continue;
      least = error;
      best = s;
    }
    out.sub[j] = static_cast<uint8_t>(best);
  }
  const float error = take_super(x, zero, max_code, out);
  Unpacked again = out;
  refit_super(x, zero, again);
  if (take_super(x, zero, max_code, again) < error) out = again;
}

}  // namespace lcrun::quant
