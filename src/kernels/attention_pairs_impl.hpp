// Attention over quantised caches: scores and weighted values as exact sums of 16-bit products.
//
// Queries become 16-bit codes with one scale a row, the weights of a block 16-bit codes that hold the values' own
// scales; cached codes widen to 16 bits. Both steps lie far below the rounding of the cache: 2^-16 of the row's largest
// query element, and 2^-16 of a block's largest weight times its largest value scale.
//   s[r][key] = sum over groups g of 32 dimensions: q_scale[r] * (sum of codes) * k_scale[g][key]
//   o[r][d]   = o[r][d] * decay[r] + (sum over keys of w[r][key] * code[key][d]) * unit_g * gain[r],
//   w[r][key] = round(e[r][key] * v_scale[key][g] / unit_g), unit_g = max over visible keys of |v_scale| / 32767
// e are weights relative to the block's own maximum (softmax with gains), so the largest is 1. What a row does not see
// enters neither its weights nor unit_g: bits depend on the row alone, as in attention_impl.hpp, and here not even on
// the instruction set but for the scores' float steps.
// A pair holds two neighbours of the summed dimension: head dimensions for keys, tokens for values.
#pragma once

#include "src/kernels/attention_impl.hpp"
#include "src/kernels/kv_impl.hpp"
#include "src/kernels/simd_int.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

constexpr float kCodeMax = 32767.0F;
constexpr int64_t kGroupPairs = kGroup / 2;
constexpr int64_t kBlockPairs = kKvBlock / 2;

// --- readers: pairs of step `step` in 16 columns from `column` on; ahead() fetches what lies behind --------------

struct KeyPairsQ8 {
  const int8_t* p;
  const uint16_t* halves;  // [dim / 32, 64]
  int64_t after;
  KeyPairsQ8(const std::byte* part, int64_t dim, int64_t next = 0)
      : p(as<int8_t>(part)), halves(as<uint16_t>(part + dim * kKvBlock)), after(next) {}
  void ahead(int64_t step, int64_t) const { fetch_ahead(p + 2 * step * kKvBlock, after, 2 * kKvBlock); }
  void get(int64_t step, int64_t column, I32* out) const {
    const int8_t* row = p + 2 * step * kKvBlock + column;
    interleave_i8(row, row + kKvBlock, out);
  }
  F32 scale(int64_t group, int64_t key) const {
    fetch_ahead(halves + group * kKvBlock + key, after, 1);
    return load_f16(halves + group * kKvBlock + key);
  }
};
struct KeyPairsQ4 {
  const uint8_t* p;
  const uint16_t* halves;
  int64_t after;
  KeyPairsQ4(const std::byte* part, int64_t dim, int64_t next = 0)
      : p(as<uint8_t>(part)), halves(as<uint16_t>(part + dim / 2 * kKvBlock)), after(next) {}
  void ahead(int64_t step, int64_t) const { fetch_ahead(p + step * kKvBlock, after, kKvBlock); }
  void get(int64_t step, int64_t column, I32* out) const { split_q4(p + step * kKvBlock + column, out); }
  F32 scale(int64_t group, int64_t key) const {
    fetch_ahead(halves + group * kKvBlock + key, after, 1);
    return load_f16(halves + group * kKvBlock + key);
  }
};

// Column `group` of the scales [64, groups] as 64 floats.
inline void scale_column(const uint16_t* halves, int64_t groups, int64_t group, float* out) {
  for (int64_t key = 0; key < kKvBlock; key += kLanes) {
    const uint16_t* p = halves + key * groups + group;
    if (groups == 1) {
      store(out + key, load_f16(p));
    } else if (groups == 2) {
      store(out + key, load_every_other_f16(halves + key * groups, group));
    } else {
      uint16_t column[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) column[i] = p[i * groups];
      store(out + key, load_f16(column));
    }
  }
}

struct ValuePairsQ8 {
  const int8_t* p;
  const uint16_t* halves;  // [64, dim / 32]
  int64_t dim;
  int64_t after;
  ValuePairsQ8(const std::byte* part, int64_t n, int64_t next = 0)
      : p(as<int8_t>(part)), halves(as<uint16_t>(part + n * kKvBlock)), dim(n), after(next) {}
  void ahead(int64_t step, int64_t column) const {
    fetch_ahead(p + 2 * step * dim + column, after, 1);
    fetch_ahead(p + (2 * step + 1) * dim + column, after, 1);
  }
  void get(int64_t step, int64_t column, I32* out) const {
    const int8_t* row = p + 2 * step * dim + column;
    interleave_i8(row, row + dim, out);
  }
  const float* scales(int64_t group, float* buffer) const {
    fetch_ahead(halves + group * kKvBlock, after, 2 * kKvBlock);
    scale_column(halves, dim / kGroup, group, buffer);
    return buffer;
  }
};
struct ValuePairsQ4 {
  const uint8_t* p;
  const uint16_t* halves;
  int64_t dim;
  int64_t after;
  ValuePairsQ4(const std::byte* part, int64_t n, int64_t next = 0)
      : p(as<uint8_t>(part)), halves(as<uint16_t>(part + n / 2 * kKvBlock)), dim(n), after(next) {}
  void ahead(int64_t step, int64_t column) const { fetch_ahead(p + step * dim + column / 2, after, 1); }
  void get(int64_t step, int64_t column, I32* out) const {
    const uint8_t* row = p + step * dim + column / kGroup * (kGroup / 2);
    interleave_q4(row, row + dim / 2, column % kGroup < kGroup / 2 ? 0 : 4, out);
  }
  const float* scales(int64_t group, float* buffer) const {
    fetch_ahead(halves + group * kKvBlock, after, 2 * kKvBlock);
    scale_column(halves, dim / kGroup, group, buffer);
    return buffer;
  }
};

// A converted part: pairs [steps, columns], then scales [dim / 32, 64] as floats.
struct KeyPairsTile {
  const int32_t* p;
  const float* values;
  KeyPairsTile(const std::byte* tile, int64_t dim, int64_t = 0)
      : p(as<int32_t>(tile)), values(as<float>(tile) + dim / 2 * kKvBlock) {}
  void ahead(int64_t, int64_t) const {}
  void get(int64_t step, int64_t column, I32* out) const {
    for (int64_t i = 0; i < kUnit; ++i) out[i] = load_pairs(p + step * kKvBlock + column + i * kLanes);
  }
  F32 scale(int64_t group, int64_t key) const { return load(values + group * kKvBlock + key); }
};
struct ValuePairsTile {
  const int32_t* p;
  const float* values;
  int64_t dim;
  ValuePairsTile(const std::byte* tile, int64_t n, int64_t = 0)
      : p(as<int32_t>(tile)), values(as<float>(tile) + kBlockPairs * n), dim(n) {}
  void ahead(int64_t, int64_t) const {}
  void get(int64_t step, int64_t column, I32* out) const {
    for (int64_t i = 0; i < kUnit; ++i) out[i] = load_pairs(p + step * dim + column + i * kLanes);
  }
  const float* scales(int64_t group, float*) const { return values + group * kKvBlock; }
};

// Pairs of `steps` x `columns` into a tile; returns where the scales go.
template <class Pairs>
float* pairs_to_tile(const Pairs& pairs, int64_t steps, int64_t columns, std::byte* tile) {
  auto* out = static_cast<int32_t*>(static_cast<void*>(tile));
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t column = 0; column < columns; column += kUnitColumns) {
      I32 both[kUnit];
      pairs.get(step, column, both);
      for (int64_t i = 0; i < kUnit; ++i) store_pairs(out + step * columns + column + i * kLanes, both[i]);
    }
  }
  return static_cast<float*>(static_cast<void*>(out + steps * columns));
}
template <class Keys>
void key_pairs_tile(const std::byte* part, int64_t dim, std::byte* tile) {
  const Keys keys(part, dim);
  float* scales = pairs_to_tile(keys, dim / 2, kKvBlock, tile);
  for (int64_t at = 0; at < dim / kGroup * kKvBlock; at += kLanes) store(scales + at, keys.scale(0, at));
}
template <class Values>
void value_pairs_tile(const std::byte* part, int64_t dim, std::byte* tile) {
  const Values values(part, dim);
  float* scales = pairs_to_tile(values, kBlockPairs, dim, tile);
  for (int64_t group = 0; group < dim / kGroup; ++group) values.scales(group, scales + group * kKvBlock);
}

// --- products ------------------------------------------------------------------------------------------------------

// Units of 16 columns side by side for a pass of `rows` rows.
constexpr int64_t units_for(int64_t rows, int64_t most) {
  int64_t n = 1;
  while (2 * n * rows * kUnit <= kAccumulators && 2 * n <= most) n *= 2;
  return n;
}

// sums[r] = sum over steps [first, end) of the pairs of row r of `codes` and of kWide units from `column` on, as
// floats.
template <class Pairs, int kRows, int64_t kWide>
inline void pair_sums(const int16_t* codes, int64_t stride, const Pairs& pairs, int64_t first, int64_t end,
                      int64_t column, float* sums) {
  constexpr int64_t kVectors = kWide * kUnit;
  constexpr int64_t kAll = kRows * kVectors;
  I32 acc[kAll];
  unrolled<0, kAll>([&]<int64_t i>() __attribute__((always_inline)) { acc[i] = zero_i32(); });
  int64_t step = first;
  do {  // never empty: the check before a for loop costs copies of all sums inside it
    pairs.ahead(step, column);
    I32 b[kVectors];
    unrolled<0, kWide>([&]<int64_t j>() __attribute__((always_inline)) {
      pairs.get(step, column + j * kUnitColumns, b + j * kUnit);
    });
    unrolled<0, kRows>([&]<int64_t r>() __attribute__((always_inline)) {
      const I32 a = splat_pair(codes + r * stride + 2 * step);
      unrolled<0, kVectors>([&]<int64_t j>() __attribute__((always_inline)) {
        acc[r * kVectors + j] = dot_pairs(acc[r * kVectors + j], a, b[j]);
      });
    });
  } while (++step < end);
  unrolled<0, kAll>([&]<int64_t i>() __attribute__((always_inline)) { store(sums + i * kLanes, to_f32(acc[i])); });
}

// --- scores --------------------------------------------------------------------------------------------------------

void quantize_q(const float* q, int64_t rows, int64_t k_dim, int16_t* codes, float* scales) {
  for (int64_t row = 0; row < rows; ++row, q += k_dim, codes += k_dim) {
    F32 top = splat(0.0F);
    for (int64_t d = 0; d < k_dim; d += kLanes) top = vmax(top, vabs(load(q + d)));
    const float largest = reduce_max(top);
    const F32 factor = splat(largest > 1e-30F ? kCodeMax / largest : 0.0F);
    for (int64_t d = 0; d < k_dim; d += kLanes) store_i16(codes + d, load(q + d) * factor);
    scales[row] = largest / kCodeMax;
  }
}

template <class Keys>
struct PairScores {
  const AttnTile& t;
  const Keys& keys;

  template <int kRows>
  void pass(int64_t row) const {
    constexpr int64_t kWide = units_for(kRows, kKvBlock / kUnitColumns);
    const int16_t* codes = t.q_codes + row * t.k_dim;
    const float* q_scales = t.q_scales + row;
    float* scores = t.s + row * kKvBlock;
    for (int64_t column = 0; column < kKvBlock; column += kWide * kUnitColumns) {
      for (int64_t group = 0; group < t.k_dim / kGroup; ++group) {
        float sums[kRows * kWide * kUnitColumns];
        pair_sums<Keys, kRows, kWide>(codes, t.k_dim, keys, group * kGroupPairs, (group + 1) * kGroupPairs, column,
                                      sums);
        for (int64_t at = 0; at < kWide * kUnitColumns; at += kLanes) {
          const F32 k_scale = keys.scale(group, column + at);
          for (int r = 0; r < kRows; ++r) {
            float* s = scores + r * kKvBlock + column + at;
            const F32 sum = load(sums + r * kWide * kUnitColumns + at) * splat(q_scales[r]);
            store(s, group == 0 ? sum * k_scale : fma(sum, k_scale, load(s)));
          }
        }
      }
    }
  }
};

template <class Keys>
void pair_scores(const AttnTile& t, const std::byte* k_part) {
  const Keys keys(k_part, t.k_dim, t.after_k);
  for_row_passes(t.rows, PairScores<Keys>{t, keys});
}

// --- values --------------------------------------------------------------------------------------------------------

// Rows that see the same keys [lo, hi) and one group of 32 columns.
template <class Values>
struct PairValues {
  const AttnTile& t;
  const Values& values;
  int64_t first_row;
  int64_t lo, hi;
  int64_t group;
  float unit;

  template <int kRows>
  void pass(int64_t at) const {
    constexpr int64_t kWide = units_for(kRows, kGroup / kUnitColumns);
    const int64_t row = first_row + at;
    for (int64_t column = group * kGroup; column < (group + 1) * kGroup; column += kWide * kUnitColumns) {
      float sums[kRows * kWide * kUnitColumns];
      pair_sums<Values, kRows, kWide>(t.w + row * kKvBlock, kKvBlock, values, lo / 2, (hi + 1) / 2, column, sums);
      for (int r = 0; r < kRows; ++r) {
        const F32 gain = splat(t.gain[row + r] * unit);
        const F32 decay = splat(t.decay[row + r]);
        float* o = t.o + (row + r) * t.o_stride + column;
        for (int64_t i = 0; i < kWide * kUnitColumns; i += kLanes) {
          store(o + i, fma(load(sums + r * kWide * kUnitColumns + i), gain, load(o + i) * decay));
        }
      }
    }
  }
};

// factors = scales / unit within [lo, hi), else 0. Returns unit.
inline float weight_factors(const float* scales, int64_t lo, int64_t hi, float* factors) {
  const bool whole = lo == 0 && hi == kKvBlock;
  if (!whole) {
    for (int64_t key = 0; key < kKvBlock; ++key) factors[key] = key >= lo && key < hi ? scales[key] : 0.0F;
    scales = factors;
  }
  F32 top = vabs(load(scales));
  for (int64_t key = kLanes; key < kKvBlock; key += kLanes) top = vmax(top, vabs(load(scales + key)));
  const float largest = reduce_max(top);
  const F32 inverse = splat(largest > 0.0F ? kCodeMax / largest : 0.0F);
  for (int64_t key = 0; key < kKvBlock; key += kLanes) store(factors + key, load(scales + key) * inverse);
  return largest / kCodeMax;
}

template <class Values>
void pair_accumulate_run(const AttnTile& t, const Values& values, int64_t row, int64_t count, int64_t lo, int64_t hi) {
  for (int64_t group = 0; group < t.o_stride / kGroup; ++group) {
    float buffer[kKvBlock], factors[kKvBlock];
    const float unit = weight_factors(values.scales(group, buffer), lo, hi, factors);
    for (int64_t key = 0; key < kKvBlock; key += kLanes) {
      const F32 factor = load(factors + key);
      for (int64_t at = row * kKvBlock + key; at < (row + count) * kKvBlock; at += kKvBlock) {
        store_i16(t.w + at, load(t.s + at) * factor);
      }
    }
    for_row_passes(count, PairValues<Values>{t, values, row, lo, hi, group, unit});
  }
}

template <class Values>
void pair_accumulate(const AttnTile& t, const std::byte* v_part) {
  const Values values(v_part, t.o_stride, t.after_v);
  for (int64_t row = 0; row < t.rows;) {
    const int64_t count = same_view_rows(t, row);
    pair_accumulate_run(t, values, row, count, t.whole ? 0 : t.lo[row], t.whole ? kKvBlock : t.hi[row]);
    row += count;
  }
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
