// The page: how one block of cache lies on a disk, with a checksum that is bound to what the page is.
//
// A page is an extent: payload | zeros | seal of 128 bytes, at the very end (docs/formats.md, "cache pages"). The
// checksum covers the payload and the identity: a page that is whole but belongs elsewhere, or is what this page held
// before, is as wrong as a damaged one. Reading always checks; what is found is a verdict, never a guess.
// Thread rule: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lcrun::storage {

constexpr int64_t kBlockTokens = 64;  // rows of a block; on disk: never change
constexpr uint16_t kPageFormat = 1;   // on disk: a change of anything below is a new number
constexpr uint64_t kSealBytes = 128;  // on disk
constexpr uint32_t kPageSlices = 8;   // on disk: parts of the payload that are hashed each for itself
using SessionId = std::array<uint8_t, 16>;

// What a page is. `generation` grows with every write of a store and is never used twice.
struct PageIdentity {
  SessionId session{};
  uint32_t layer = 0;
  uint32_t head_group = 0;  // 0: all KV heads in one extent
  uint64_t block = 0;       // row / 64
  uint64_t generation = 0;
};

enum class Verdict : uint8_t {
  kOk = 0,
  kTorn,             // parts of it are not of this write (or there is no seal)
  kFlipped,          // one part of it, or the seal, is damaged
  kOtherIdentity,    // whole, but another page, or of another session
  kOlderGeneration,  // whole, this page, but a write was lost
  kChanged,          // not what was written: all that a checksum kept elsewhere can say
};
constexpr uint32_t kVerdicts = 6;
const char* verdict_name(Verdict verdict);

// XXH3-128 of a payload, low word first: of pages whose checksum is kept elsewhere.
using PageCheck = std::array<uint64_t, 2>;
PageCheck page_check(std::span<const std::byte> payload);
Verdict check_page(std::span<const std::byte> payload, const PageCheck& wanted);  // kOk or kChanged

// Bytes of the extent of a payload: both are multiples of `alignment`, or the extent is.
uint64_t extent_bytes(uint64_t payload_bytes, uint32_t alignment);

// Fills what lies behind the payload: zeros and the seal. Requires extent.size() >= payload_bytes + kSealBytes.
void seal_page(std::span<std::byte> extent, uint64_t payload_bytes, const PageIdentity& identity);
// kOk only if every byte of the payload is what seal_page() saw under the same identity (up to a collision of
// XXH3-128). Between kTorn and kFlipped the verdict is the likelier name of the damage, not a proof.
Verdict check_page(std::span<const std::byte> extent, uint64_t payload_bytes, const PageIdentity& wanted);
// The same of a payload and a seal (the last kSealBytes of the extent) that were read to different places.
Verdict check_page(std::span<const std::byte> payload, std::span<const std::byte> seal, const PageIdentity& wanted);

}  // namespace lcrun::storage
