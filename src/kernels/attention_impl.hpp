// Attention of some query rows over one block of 64 keys: scores, online softmax, weighted values.
//
// The online form follows Milakov and Gimelshein, arXiv 1805.02867, section 3, and Dao et al., arXiv 2205.14135,
// section 3.1: each row keeps (o, m, l) = (sum p v, max score, sum p) with p = exp(score - m).
// Bits: an element of s is one chain of multiply-adds over the dimensions in order, an element of o one chain over
// the visible keys in order; the register blocking only decides which chains run side by side. So a row's result
// depends neither on the other rows of the call, nor on keys it does not see, nor on whether keys and values come
// straight from the cache or as float tiles.
#pragma once

#include "src/kernels/kv_impl.hpp"
#include "src/kernels/simd.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Accumulators that fit beside the operands.
constexpr int64_t kAccumulators = kManyRegisters ? 24 : 12;
constexpr int kMaxRows = 6;

// Vectors per row for a pass of `rows` rows: a power of two, at most `most`.
constexpr int64_t vectors_for(int64_t rows, int64_t most) {
  int64_t n = 1;
  while (2 * n * rows <= kAccumulators && 2 * n <= most) n *= 2;
  return n;
}

// --- scores ------------------------------------------------------------------------------------------------------

// kRows rows of q against all 64 keys.
template <class Keys, int kRows>
void scores_pass(const float* q, const Keys& keys, int64_t k_dim, float* s) {
  constexpr int64_t kWidth = vectors_for(kRows, kKvBlock / kLanes);
  for (int64_t key = 0; key < kKvBlock; key += kWidth * kLanes) {
    F32 acc[kRows][kWidth];
    for (int r = 0; r < kRows; ++r) {
      for (int64_t j = 0; j < kWidth; ++j) acc[r][j] = splat(0.0F);
    }
    for (int64_t d = 0; d < k_dim; d += Keys::kStep) {
      F32 k[kWidth][Keys::kStep];
      for (int64_t j = 0; j < kWidth; ++j) keys.get(d, key + j * kLanes, k[j]);
      for (int64_t i = 0; i < Keys::kStep; ++i) {
        for (int r = 0; r < kRows; ++r) {
          const F32 query = splat(q[r * k_dim + d + i]);
          for (int64_t j = 0; j < kWidth; ++j) acc[r][j] = fma(query, k[j][i], acc[r][j]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int64_t j = 0; j < kWidth; ++j) store(s + r * kKvBlock + key + j * kLanes, acc[r][j]);
    }
  }
}

template <class Keys>
void scores(const AttnTile& t, const std::byte* k_part) {
  const Keys keys(k_part, t.k_dim);
  int64_t row = 0;
  for (; row + kMaxRows <= t.rows; row += kMaxRows) {
    scores_pass<Keys, kMaxRows>(t.q + row * t.k_dim, keys, t.k_dim, t.s + row * kKvBlock);
  }
  const float* q = t.q + row * t.k_dim;
  float* s = t.s + row * kKvBlock;
  switch (t.rows - row) {
    case 5:
      return scores_pass<Keys, 5>(q, keys, t.k_dim, s);
    case 4:
      return scores_pass<Keys, 4>(q, keys, t.k_dim, s);
    case 3:
      return scores_pass<Keys, 3>(q, keys, t.k_dim, s);
    case 2:
      return scores_pass<Keys, 2>(q, keys, t.k_dim, s);
    case 1:
      return scores_pass<Keys, 1>(q, keys, t.k_dim, s);
    default:
      return;
  }
}

// --- softmax -----------------------------------------------------------------------------------------------------

void softmax_row(const AttnTile& t, int64_t row) {
  constexpr int64_t kVectors = kKvBlock / kLanes;
  float* s = t.s + row * kKvBlock;
  if (t.soft_cap > 0.0F) {
    const F32 cap = splat(t.soft_cap);
    const F32 inverse = splat(1.0F / t.soft_cap);
    for (int64_t i = 0; i < kKvBlock; i += kLanes) store(s + i, vsoft_cap(load(s + i), cap, inverse));
  }
  for (int64_t i = 0; i < t.lo[row]; ++i) s[i] = -INFINITY;
  for (int64_t i = t.hi[row]; i < kKvBlock; ++i) s[i] = -INFINITY;

  F32 top = load(s);
  for (int64_t i = kLanes; i < kKvBlock; i += kLanes) top = vmax(top, load(s + i));
  const float block_max = reduce_max(top);
  const float before = t.m[row];
  const float m = block_max > before ? block_max : before;
  // All scores -inf (a key row that overflowed): weights would be exp(-inf + inf).
  const F32 shift = splat(m == -INFINITY ? 0.0F : m);
  F32 sums[kVectors < 4 ? kVectors : 4];
  constexpr int64_t kSums = kVectors < 4 ? kVectors : 4;
  for (int64_t j = 0; j < kSums; ++j) sums[j] = splat(0.0F);
  for (int64_t v = 0; v < kVectors; ++v) {
    const F32 p = vexp(load(s + v * kLanes) - shift);
    store(s + v * kLanes, p);
    sums[v % kSums] = sums[v % kSums] + p;
  }
  F32 total = sums[0];
  for (int64_t j = 1; j < kSums; ++j) total = total + sums[j];
  const float block_sum = reduce_add(total);

  t.m[row] = m;
  if (m == before) {
    t.l[row] += block_sum;
    return;
  }
  float decay_lanes[kLanes];
  store(decay_lanes, vexp(splat(before - m)));  // 0 for the first block: before = -inf
  const F32 decay = splat(decay_lanes[0]);
  t.l[row] = t.l[row] * decay_lanes[0] + block_sum;
  float* o = t.o + row * t.o_stride;
  for (int64_t i = 0; i < t.o_stride; i += kLanes) store(o + i, load(o + i) * decay);
}

void softmax_block(const AttnTile& t) {
  for (int64_t row = 0; row < t.rows; ++row) softmax_row(t, row);
}

// --- values ------------------------------------------------------------------------------------------------------

// kRows rows that see the same keys [lo, hi), kWidth vectors of the head from `column` on.
template <class Values, int kRows, int64_t kWidth>
inline void accumulate_strip(const float* p, const Values& values, int64_t lo, int64_t hi, int64_t column, float* o,
                             int64_t o_stride) {
  F32 acc[kRows][kWidth];
  for (int r = 0; r < kRows; ++r) {
    for (int64_t j = 0; j < kWidth; ++j) acc[r][j] = load(o + r * o_stride + column + j * kLanes);
  }
  for (int64_t key = lo; key < hi; ++key) {
    F32 v[kWidth];
    for (int64_t j = 0; j < kWidth; ++j) v[j] = values.get(key, column + j * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F32 weight = splat(p[r * kKvBlock + key]);
      for (int64_t j = 0; j < kWidth; ++j) acc[r][j] = fma(weight, v[j], acc[r][j]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int64_t j = 0; j < kWidth; ++j) store(o + r * o_stride + column + j * kLanes, acc[r][j]);
  }
}

// Columns [column, o_stride) in strips of kWidth vectors, what is left in narrower ones.
template <class Values, int kRows, int64_t kWidth>
inline void accumulate_columns(const float* p, const Values& values, int64_t lo, int64_t hi, int64_t column, float* o,
                               int64_t o_stride) {
  for (; column + kWidth * kLanes <= o_stride; column += kWidth * kLanes) {
    accumulate_strip<Values, kRows, kWidth>(p, values, lo, hi, column, o, o_stride);
  }
  if constexpr (kWidth > 1) {
    if (column < o_stride) {
      accumulate_columns<Values, kRows, kWidth / 2>(p, values, lo, hi, column, o, o_stride);
    }
  }
}

template <class Values, int kRows>
void accumulate_pass(const float* p, const Values& values, int64_t lo, int64_t hi, float* o, int64_t o_stride) {
  accumulate_columns<Values, kRows, vectors_for(kRows, 8)>(p, values, lo, hi, 0, o, o_stride);
}

template <class Values>
void accumulate(const AttnTile& t, const std::byte* v_part) {
  const Values values(v_part, t.o_stride);
  for (int64_t row = 0; row < t.rows;) {
    const int64_t lo = t.lo[row], hi = t.hi[row];
    int64_t count = 1;
    while (count < kMaxRows && row + count < t.rows && t.lo[row + count] == lo && t.hi[row + count] == hi) ++count;
    const float* p = t.s + row * kKvBlock;
    float* o = t.o + row * t.o_stride;
    switch (count) {
      case 6:
        accumulate_pass<Values, 6>(p, values, lo, hi, o, t.o_stride);
        break;
      case 5:
        accumulate_pass<Values, 5>(p, values, lo, hi, o, t.o_stride);
        break;
      case 4:
        accumulate_pass<Values, 4>(p, values, lo, hi, o, t.o_stride);
        break;
      case 3:
        accumulate_pass<Values, 3>(p, values, lo, hi, o, t.o_stride);
        break;
      case 2:
        accumulate_pass<Values, 2>(p, values, lo, hi, o, t.o_stride);
        break;
      default:
        accumulate_pass<Values, 1>(p, values, lo, hi, o, t.o_stride);
        break;
    }
    row += count;
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
