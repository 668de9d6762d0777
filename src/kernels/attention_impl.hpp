// Attention of some query rows over one block of 64 keys: scores, online softmax, weighted values.
//
// The online form follows Milakov and Gimelshein, arXiv 1805.02867, section 3, and Dao et al., arXiv 2205.14135,
// section 3.1: each row keeps (o, m, l) = (sum p v, max score, sum p) with p = exp(score - m). The softmax finds by
// how much a row's o must shrink (decay) and leaves that to the product with the values, which reads o anyway.
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
constexpr int64_t kSoftmaxRows = 64;  // rows whose maxima are brought up to date together

// Vectors per row for a pass of `rows` rows: a power of two, at most `most`.
constexpr int64_t vectors_for(int64_t rows, int64_t most) {
  int64_t n = 1;
  while (2 * n * rows <= kAccumulators && 2 * n <= most) n *= 2;
  return n;
}

// Calls body.pass<n>(row) for neighbouring rows in passes of kMaxRows, the rest in one smaller pass.
template <class Body>
inline void for_row_passes(int64_t rows, const Body& body) {
  int64_t row = 0;
  for (; row + kMaxRows <= rows; row += kMaxRows) body.template pass<kMaxRows>(row);
  switch (rows - row) {
    case 5:
      return body.template pass<5>(row);
    case 4:
      return body.template pass<4>(row);
    case 3:
      return body.template pass<3>(row);
    case 2:
      return body.template pass<2>(row);
    case 1:
      return body.template pass<1>(row);
    default:
      return;
  }
}

// body.at<i>() for i in [kAt, kEnd), with no loop left: an array of vectors that a loop indexes is kept in memory, and
// here the compiler unrolls too late to take it out again (a third of the speed was lost so).
template <int64_t kAt, int64_t kEnd, class Body>
[[gnu::always_inline]] inline void unrolled(const Body& body) {
  if constexpr (kAt < kEnd) {
    body.template operator()<kAt>();
    unrolled<kAt + 1, kEnd>(body);
  }
}

// acc[r * kWidth + j] += row(r) * column(j). Whichever side is shorter stays in registers while the other passes by:
// the longer one does not fit beside 12 sums in 16 registers, and a sum kept in memory makes its chain three times as
// long.
template <int kRows, int64_t kWidth, class Row, class Column>
[[gnu::always_inline]] inline void multiply_in(F32* acc, const Row& row, const Column& column) {
  if constexpr (kRows < kWidth) {
    F32 held[kRows];
    unrolled<0, kRows>([&]<int64_t r>() __attribute__((always_inline)) { held[r] = row(r); });
    unrolled<0, kWidth>([&]<int64_t j>() __attribute__((always_inline)) {
      const F32 passing = column(j);
      unrolled<0, kRows>([&]<int64_t r>() __attribute__((always_inline)) {
        acc[r * kWidth + j] = fma(held[r], passing, acc[r * kWidth + j]);
      });
    });
  } else {
    F32 held[kWidth];
    unrolled<0, kWidth>([&]<int64_t j>() __attribute__((always_inline)) { held[j] = column(j); });
    unrolled<0, kRows>([&]<int64_t r>() __attribute__((always_inline)) {
      const F32 passing = row(r);
      unrolled<0, kWidth>([&]<int64_t j>() __attribute__((always_inline)) {
        acc[r * kWidth + j] = fma(passing, held[j], acc[r * kWidth + j]);
      });
    });
  }
}

// --- scores ------------------------------------------------------------------------------------------------------

// kRows rows of q against all 64 keys.
template <class Keys, int kRows>
void scores_pass(const float* q, const Keys& keys, int64_t k_dim, float* s) {
  constexpr int64_t kWidth = vectors_for(kRows, kKvBlock / kLanes);
  for (int64_t key = 0; key < kKvBlock; key += kWidth * kLanes) {
    F32 acc[kRows * kWidth];
    unrolled<0, kRows * kWidth>([&]<int64_t i>() __attribute__((always_inline)) { acc[i] = splat(0.0F); });
    for (int64_t d = 0; d < k_dim; ++d) {
      keys.ahead(d, key, kWidth * kLanes);
      multiply_in<kRows, kWidth>(
          acc, [&](int64_t r) { return splat(q[r * k_dim + d]); },
          [&](int64_t j) { return keys.get(d, key + j * kLanes); });
    }
    unrolled<0, kRows * kWidth>([&]<int64_t i>() __attribute__((always_inline)) {
      store(s + i / kWidth * kKvBlock + key + i % kWidth * kLanes, acc[i]);
    });
  }
}

template <class Keys>
struct ScorePasses {
  const AttnTile& t;
  const Keys& keys;

  template <int kRows>
  void pass(int64_t row) const {
    scores_pass<Keys, kRows>(t.q + row * t.k_dim, keys, t.k_dim, t.s + row * kKvBlock);
  }
};

template <class Keys>
void scores(const AttnTile& t, const std::byte* k_part) {
  const Keys keys(k_part, t.k_dim, t.after_k);
  for_row_passes(t.rows, ScorePasses<Keys>{t, keys});
}

// --- softmax -----------------------------------------------------------------------------------------------------

// e^x for x <= 0 with relative error below 2e-7 + 2e-8 |x|; exactly 1 at 0; e^-86 (5e-38) below -86 and for -inf.
// Cheaper than vexp(): weights need no zero, masked ones are set.
// 2^n rides in the low bits of n + 1.5 * 2^23; 2^r = 1 + r P(r), |r| <= 1/2, P fitted for least relative error.
inline F32 vexp_weight(F32 x) {
  const F32 log2e = splat(1.44269504F);
  const F32 magic = splat(12582912.0F);
  const F32 bounded = vmax(x, splat(-86.0F));
  const F32 shifted = fma(bounded, log2e, magic);
  const F32 r = fma(bounded, log2e, magic - shifted);
  F32 p = splat(1.3264727253e-3F);
  p = fma(p, r, splat(9.6715127858e-3F));
  p = fma(p, r, splat(5.5507337445e-2F));
  p = fma(p, r, splat(2.4022242083e-1F));
  p = fma(p, r, splat(6.9314697760e-1F));
  return scale_by_pow2(fma(p, r, splat(1.0F)), shifted);
}

// Rows from `row` on that see the same keys.
inline int64_t same_view_rows(const AttnTile& t, int64_t row) {
  const int64_t left = t.rows - row;
  if (t.whole) return left;
  int64_t count = 1;
  while (count < left && t.lo[row + count] == t.lo[row] && t.hi[row + count] == t.hi[row]) ++count;
  return count;
}

// Soft cap and mask of one row; returns its largest score.
inline float top_score(const AttnTile& t, int64_t row) {
  float* s = t.s + row * kKvBlock;
  if (t.soft_cap > 0.0F) {
    const F32 cap = splat(t.soft_cap);
    const F32 inverse = splat(1.0F / t.soft_cap);
    for (int64_t i = 0; i < kKvBlock; i += kLanes) store(s + i, vsoft_cap(load(s + i), cap, inverse));
  }
  if (!t.whole) {
    for (int64_t i = 0; i < t.lo[row]; ++i) s[i] = -INFINITY;
    for (int64_t i = t.hi[row]; i < kKvBlock; ++i) s[i] = -INFINITY;
  }
  F32 top = load(s);
  for (int64_t i = kLanes; i < kKvBlock; i += kLanes) top = vmax(top, load(s + i));
  return reduce_max(top);
}

// s = exp(s - shift) of one row, masked ones 0; returns their sum.
inline float weigh_row(const AttnTile& t, int64_t row, float shift) {
  constexpr int64_t kVectors = kKvBlock / kLanes;
  constexpr int64_t kSums = kVectors < 4 ? kVectors : 4;
  float* s = t.s + row * kKvBlock;
  const F32 base = splat(shift);
  for (int64_t i = 0; i < kKvBlock; i += kLanes) store(s + i, vexp_weight(load(s + i) - base));
  if (!t.whole) {
    for (int64_t i = 0; i < t.lo[row]; ++i) s[i] = 0.0F;
    for (int64_t i = t.hi[row]; i < kKvBlock; ++i) s[i] = 0.0F;
  }
  F32 sums[kSums];
  for (int64_t j = 0; j < kSums; ++j) sums[j] = load(s + j * kLanes);
  for (int64_t v = kSums; v < kVectors; ++v) sums[v % kSums] = sums[v % kSums] + load(s + v * kLanes);
  F32 total = sums[0];
  for (int64_t j = 1; j < kSums; ++j) total = total + sums[j];
  return reduce_add(total);
}

// Up to kSoftmaxRows rows whose maxima are brought up to date in vectors: rows beyond the last are computed and unread.
struct Maxima {
  float block[kSoftmaxRows];   // a row's largest score in this block
  float before[kSoftmaxRows];  // and before it
  float now[kSoftmaxRows];
  float decay[kSoftmaxRows];
  float gain[kSoftmaxRows];

  void update(int64_t rows) {
    for (int64_t row = 0; row < rows; row += kLanes) {
      const F32 top = load(block + row);
      const F32 old = load(before + row);
      const F32 m = vmax(top, old);
      // All scores -inf (a key row that overflowed): weights would be exp(-inf + inf).
      const F32 shift = vmax(m, splat(-3e38F));
      store(now + row, m);
      store(decay + row, vexp_weight(old - shift));
      store(gain + row, vexp_weight(top - shift));
    }
  }
};

// With kOwnMax weights are relative to the block's own maximum and gain says what they are worth, else they are
// relative to the row's maximum so far.
template <bool kOwnMax>
void softmax_block(const AttnTile& t) {
  Maxima maxima;
  for (int64_t first = 0; first < t.rows; first += kSoftmaxRows) {
    const int64_t count = first + kSoftmaxRows < t.rows ? kSoftmaxRows : t.rows - first;
    for (int64_t i = 0; i < count; ++i) {
      maxima.block[i] = top_score(t, first + i);
      maxima.before[i] = t.m[first + i];
    }
    // Lanes without a row: whatever lies there may be subnormal, which costs hundreds of cycles.
    for (int64_t i = count; i % kLanes != 0; ++i) maxima.block[i] = maxima.before[i] = 0.0F;
    maxima.update(count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      const float base = kOwnMax ? maxima.block[i] : maxima.now[i];
      const float sum = weigh_row(t, row, base < -3e38F ? -3e38F : base);
      t.m[row] = maxima.now[i];
      t.l[row] = t.l[row] * maxima.decay[i] + (kOwnMax ? sum * maxima.gain[i] : sum);
      t.decay[row] = maxima.decay[i];
      t.gain[row] = maxima.gain[i];
    }
  }
}

// --- values ------------------------------------------------------------------------------------------------------

// kRows rows that see the same keys [lo, hi), kWidth vectors of the head from `column` on.
template <class Values, int kRows, int64_t kWidth>
inline void accumulate_strip(const AttnTile& t, int64_t row, const Values& values, int64_t lo, int64_t hi,
                             int64_t column) {
  const float* p = t.s + row * kKvBlock;
  float* o = t.o + row * t.o_stride;
  const int64_t o_stride = t.o_stride;
  F32 acc[kRows * kWidth];
  unrolled<0, kRows * kWidth>([&]<int64_t i>() __attribute__((always_inline)) {
    acc[i] = load(o + i / kWidth * o_stride + column + i % kWidth * kLanes) * splat(t.decay[row + i / kWidth]);
  });
  for (int64_t key = lo; key < hi; ++key) {
    values.ahead(key, column, kWidth * kLanes);
    multiply_in<kRows, kWidth>(
        acc, [&](int64_t r) { return splat(p[r * kKvBlock + key]); },
        [&](int64_t j) { return values.get(key, column + j * kLanes); });
  }
  unrolled<0, kRows * kWidth>([&]<int64_t i>() __attribute__((always_inline)) {
    store(o + i / kWidth * o_stride + column + i % kWidth * kLanes, acc[i]);
  });
}

// Columns [column, o_stride) in strips of kWidth vectors, what is left in narrower ones.
template <class Values, int kRows, int64_t kWidth>
inline void accumulate_columns(const AttnTile& t, int64_t row, const Values& values, int64_t lo, int64_t hi,
                               int64_t column) {
  for (; column + kWidth * kLanes <= t.o_stride; column += kWidth * kLanes) {
    accumulate_strip<Values, kRows, kWidth>(t, row, values, lo, hi, column);
  }
  if constexpr (kWidth > 1) {
    if (column < t.o_stride) accumulate_columns<Values, kRows, kWidth / 2>(t, row, values, lo, hi, column);
  }
}

// Neighbouring rows that see the same keys [lo, hi).
template <class Values>
struct ValuePasses {
  const AttnTile& t;
  const Values& values;
  int64_t first_row;
  int64_t lo, hi;

  template <int kRows>
  void pass(int64_t at) const {
    accumulate_columns<Values, kRows, vectors_for(kRows, 8)>(t, first_row + at, values, lo, hi, 0);
  }
};

template <class Values>
void accumulate(const AttnTile& t, const std::byte* v_part) {
  const Values values(v_part, t.o_stride, t.after_v);
  for (int64_t row = 0; row < t.rows;) {
    const int64_t count = same_view_rows(t, row);
    const int64_t lo = t.whole ? 0 : t.lo[row], hi = t.whole ? kKvBlock : t.hi[row];
    for_row_passes(count, ValuePasses<Values>{t, values, row, lo, hi});
    row += count;
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
