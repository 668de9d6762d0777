// Codes of one step as bytes in registers, from the planes of matmul_layout.hpp: one text for all vector widths.
//
// V gives: Bytes, load(p), splat(byte), select(x, mask) = x & mask, merge(code, x, mask) = code | (x & mask),
// shift_left<n>, shift_right<n> (of units of 8 or 16 bits: what crosses a byte is masked away), lookup(table, codes)
// in a table of 16 bytes, load_table(p).
#pragma once

#include <cstdint>

#include "src/kernels/matmul_layout.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

// Moves bit field `From` of each byte to bit `To`; other bits are left dirty.
template <class V, int From, int To>
inline typename V::Bytes move_bits(typename V::Bytes x) {
  if constexpr (From < To) return V::template shift_left<To - From>(x);
  if constexpr (From > To) return V::template shift_right<From - To>(x);
  if constexpr (From == To) return x;
}

// Vector `Index` of the low plane.
template <class V, int Kind, int Index>
inline typename V::Bytes low_codes(const uint8_t* plane) {
  constexpr int kBits = kPackings[Kind].low_bits;
  if constexpr (kBits == 8) {
    return V::load(plane + 64 * Index);
  } else {
    constexpr int kShift = Index / kBits * kBits;
    const auto packed = V::load(plane + 64 * (Index % kBits));
    return V::select(move_bits<V, kShift, 0>(packed), V::splat((1 << kBits) - 1));
  }
}

// The same with the bits of the high plane merged in, and looked up in the codebook.
template <class V, int Kind, int Index>
inline typename V::Bytes codes_of(const uint8_t* step) {
  constexpr Packing kPack = kPackings[Kind];
  auto code = low_codes<V, Kind, Index>(step);
  if constexpr (kPack.high_bits > 0) {
    constexpr int kShift = Index / kPack.high_bits * kPack.high_bits;
    const uint8_t* plane = step + low_plane_bytes(kPack) + 64 * (Index % kPack.high_bits);
    const auto high = move_bits<V, kShift, kPack.low_bits>(V::load(plane));
    code = V::merge(code, high, V::splat(((1 << kPack.high_bits) - 1) << kPack.low_bits));
  }
  if constexpr (kPack.codebook == Codebook::kIq4) return V::lookup(V::load_table(quant::kIq4Codes), code);
  if constexpr (kPack.codebook == Codebook::kFp4) return V::lookup(V::load_table(quant::kFp4Codes), code);
  return code;
}

template <class V, int Kind>
inline void unpack_codes(const uint8_t* step, typename V::Bytes (&out)[8]) {
  out[0] = codes_of<V, Kind, 0>(step);
  out[1] = codes_of<V, Kind, 1>(step);
  out[2] = codes_of<V, Kind, 2>(step);
  out[3] = codes_of<V, Kind, 3>(step);
  out[4] = codes_of<V, Kind, 4>(step);
  out[5] = codes_of<V, Kind, 5>(step);
  out[6] = codes_of<V, Kind, 6>(step);
  out[7] = codes_of<V, Kind, 7>(step);
}

// The largest code after the codebook.
constexpr int max_code(const Packing& p) {
  if (p.codebook == Codebook::kIq4) return quant::kIq4Codes[15];
  if (p.codebook == Codebook::kFp4) return quant::kFp4Codes[7];
  return (1 << (p.low_bits + p.high_bits)) - 1;
}

// How many products of two codes and two activations (at most 127 each) a signed 16-bit sum can hold: 8, 4, 2 or 0.
constexpr int sums_in_16_bits(const Packing& p) {
  const int pair = 2 * 127 * max_code(p);
  if (8 * pair <= 32767) return 8;
  if (4 * pair <= 32767) return 4;
  return 2 * pair <= 32767 ? 2 : 0;
}

}  // namespace
}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels
