// Bit layouts that several block formats share.
#pragma once

#include <cstdint>

namespace lcrun::quant {

// 32 codes of 4 bits: byte j holds element j (low half) and element j + 16 (high half).
inline void unpack_nibbles32(const uint8_t (&qs)[16], uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = qs[j] & 15;
    codes[j + 16] = qs[j] >> 4;
  }
}
inline void pack_nibbles32(const uint8_t* codes, uint8_t (&qs)[16]) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] << 4));
}

// The fifth bits of 32 codes: bit j of a little-endian word is element j.
inline void unpack_fifth_bits(const uint8_t (&qh)[4], uint8_t* codes) {
  for (int j = 0; j < 32; ++j) codes[j] = static_cast<uint8_t>(codes[j] | (((qh[j / 8] >> (j % 8)) & 1) << 4));
}
inline void pack_fifth_bits(const uint8_t* codes, uint8_t (&qh)[4]) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= ((codes[byte * 8 + j] >> 4) & 1) << j;
    qh[byte] = static_cast<uint8_t>(bits);
  }
}

// 256 codes of 4 bits in four runs of 64: the low halves of 32 bytes, then their high halves.
inline void unpack_nibbles256(const uint8_t (&qs)[128], uint8_t* codes) {
  for (int run = 0; run < 4; ++run) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * run + l] = qs[32 * run + l] & 15;
      codes[64 * run + 32 + l] = qs[32 * run + l] >> 4;
    }
  }
}
inline void pack_nibbles256(const uint8_t* codes, uint8_t (&qs)[128]) {
  for (int run = 0; run < 4; ++run) {
    for (int l = 0; l < 32; ++l) {
      qs[32 * run + l] = static_cast<uint8_t>((codes[64 * run + l] & 15) | (codes[64 * run + 32 + l] << 4));
    }
  }
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes (Q4_K, Q5_K). Bytes 0-3: scales 0-3, bytes 4-7: minima 0-3,
// each with two spare high bits that hold the top of scales (bytes 0-3) and minima (4-7) 4-7; bytes 8-11: the low
// halves of scales 4-7 (low) and minima 4-7 (high).
inline void unpack_scales6(const uint8_t (&packed)[12], uint8_t* scales, uint8_t* minima) {
  for (int j = 0; j < 4; ++j) {
    scales[j] = packed[j] & 63;
    minima[j] = packed[j + 4] & 63;
    scales[j + 4] = static_cast<uint8_t>((packed[j + 8] & 15) | ((packed[j] >> 6) << 4));
    minima[j + 4] = static_cast<uint8_t>((packed[j + 8] >> 4) | ((packed[j + 4] >> 6) << 4));
  }
}
inline void pack_scales6(const uint8_t* scales, const uint8_t* minima, uint8_t (&packed)[12]) {
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<uint8_t>((scales[j] & 63) | ((scales[j + 4] >> 4) << 6));
    packed[j + 4] = static_cast<uint8_t>((minima[j] & 63) | ((minima[j + 4] >> 4) << 6));
    packed[j + 8] = static_cast<uint8_t>((scales[j + 4] & 15) | ((minima[j + 4] & 15) << 4));
  }
}

}  // namespace lcrun::quant
