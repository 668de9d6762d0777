// SHA-256 (FIPS 180-4): for keys that must not collide by accident or by intent. Checksums of bytes that nobody chose
// are XXH3 (storage/page_format.hpp), which is far faster.
//
// Thread rule: an object belongs to one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lcrun {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  void update(std::span<const std::byte> bytes);
  // The digest of all that was given; the object starts anew.
  Sha256Digest finish();

 private:
  void compress(const uint8_t* block);

  static constexpr std::array<uint32_t, 8> kStart = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint32_t, 8> state_ = kStart;
  std::array<uint8_t, 64> open_{};
  uint64_t bytes_ = 0;
};

Sha256Digest sha256(std::span<const std::byte> bytes);

}  // namespace lcrun
