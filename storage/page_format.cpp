#include "storage/page_format.hpp"

#include <algorithm>
#include <cstring>

#include "src/base/check.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lcrun::storage {
namespace {

constexpr uint32_t kMagic = 0x4750434C;  // "LCPG"

// On disk, little endian; every field on its natural boundary.
struct Seal {
  uint32_t magic;
  uint16_t format;
  uint16_t slices;
  uint8_t session[16];
  uint32_t layer;
  uint32_t head_group;
  uint64_t block;
  uint64_t generation;
  uint64_t payload_bytes;
  uint32_t marks[kPageSlices];  // low words of the slices' hashes: they tell torn from flipped
  uint64_t digest[2];           // of the slices' hashes and all fields above
  uint64_t reserved[2];         // 0
  uint64_t own_check;           // XXH3-64 of the seal before this field
};
static_assert(sizeof(Seal) == kSealBytes && offsetof(Seal, own_check) == kSealBytes - 8);

struct SliceHashes {
  XXH128_hash_t of[kPageSlices];
};

SliceHashes hash_slices(std::span<const std::byte> payload) {
  SliceHashes hashes;
  const size_t step = (payload.size() / kPageSlices + 63) / 64 * 64;
  size_t from = 0;
  for (uint32_t i = 0; i < kPageSlices; ++i) {
    const size_t left = payload.size() - from;
    const size_t size = i + 1 == kPageSlices || left < step ? left : step;
    hashes.of[i] = XXH3_128bits(payload.data() + from, size);
    from += size;
  }
  return hashes;
}

Seal make_seal(const SliceHashes& slices, uint64_t payload_bytes, const PageIdentity& identity) {
  Seal seal{};
  seal.magic = kMagic;
  seal.format = kPageFormat;
  seal.slices = kPageSlices;
  std::memcpy(seal.session, identity.session.data(), sizeof(seal.session));
  seal.layer = identity.layer;
  seal.head_group = identity.head_group;
  seal.block = identity.block;
  seal.generation = identity.generation;
  seal.payload_bytes = payload_bytes;
  for (uint32_t i = 0; i < kPageSlices; ++i) seal.marks[i] = static_cast<uint32_t>(slices.of[i].low64);
  std::byte covered[sizeof(SliceHashes) + offsetof(Seal, digest)];
  std::memcpy(covered, &slices, sizeof(SliceHashes));
  std::memcpy(covered + sizeof(SliceHashes), &seal, offsetof(Seal, digest));
  const XXH128_hash_t digest = XXH3_128bits(covered, sizeof(covered));
  seal.digest[0] = digest.low64;
  seal.digest[1] = digest.high64;
  seal.own_check = XXH3_64bits(&seal, offsetof(Seal, own_check));
  return seal;
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kTorn:
      return "torn";
    case Verdict::kFlipped:
      return "flipped";
    case Verdict::kOtherIdentity:
      return "other identity";
    case Verdict::kOlderGeneration:
      return "older generation";
    case Verdict::kChanged:
      return "other bytes than were written";
  }
  return "unknown";
}

// A page that has come from a disk is in no cache, and the processor's own prefetching stops at each 4 KiB: asked for a
// page ahead, it is hashed as fast as it could be added up (docs/speed.md).
PageCheck page_check(std::span<const std::byte> payload) {
  constexpr size_t kStep = 1024, kAhead = 4096, kLine = 64;
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (size_t at = 0; at < payload.size(); at += kStep) {
    const auto part = payload.subspan(at, std::min(kStep, payload.size() - at));
    const size_t ahead_end = std::min(at + kAhead + kStep, payload.size());
    for (size_t line = at + kAhead; line < ahead_end; line += kLine) __builtin_prefetch(payload.data() + line);
    XXH3_128bits_update(&state, part.data(), part.size());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

Verdict check_page(std::span<const std::byte> payload, const PageCheck& wanted) {
  return page_check(payload) == wanted ? Verdict::kOk : Verdict::kChanged;
}

uint64_t extent_bytes(uint64_t payload_bytes, uint32_t alignment) {
  return (payload_bytes + kSealBytes + alignment - 1) / alignment * alignment;
}

void seal_page(std::span<std::byte> extent, uint64_t payload_bytes, const PageIdentity& identity) {
  LCRUN_CHECK(extent.size() >= payload_bytes + kSealBytes);
  const Seal seal = make_seal(hash_slices(extent.first(payload_bytes)), payload_bytes, identity);
  const size_t seal_at = extent.size() - kSealBytes;
  std::memset(extent.data() + payload_bytes, 0, seal_at - payload_bytes);
  std::memcpy(extent.data() + seal_at, &seal, sizeof(seal));
}

Verdict check_page(std::span<const std::byte> extent, uint64_t payload_bytes, const PageIdentity& wanted) {
  LCRUN_CHECK(extent.size() >= payload_bytes + kSealBytes);
  return check_page(extent.first(payload_bytes), extent.last(kSealBytes), wanted);
}

Verdict check_page(std::span<const std::byte> payload, std::span<const std::byte> seal, const PageIdentity& wanted) {
  LCRUN_CHECK(seal.size() == kSealBytes);
  const uint64_t payload_bytes = payload.size();
  Seal found;
  std::memcpy(&found, seal.data(), sizeof(found));
  const SliceHashes slices = hash_slices(payload);
  const Seal expected = make_seal(slices, payload_bytes, wanted);
  if (std::memcmp(&found, &expected, sizeof(found)) == 0) return Verdict::kOk;

  const bool seal_is_whole = found.own_check == XXH3_64bits(&found, offsetof(Seal, own_check));
  if (!seal_is_whole) return found.magic == kMagic ? Verdict::kFlipped : Verdict::kTorn;
  const bool same_page = found.format == kPageFormat && found.payload_bytes == payload_bytes &&
                         std::memcmp(found.session, wanted.session.data(), sizeof(found.session)) == 0 &&
                         found.layer == wanted.layer && found.head_group == wanted.head_group &&
                         found.block == wanted.block;
  if (!same_page) return Verdict::kOtherIdentity;
  if (found.generation != wanted.generation) {
    return found.generation < wanted.generation ? Verdict::kOlderGeneration : Verdict::kOtherIdentity;
  }
  uint32_t damaged = 0;
  for (uint32_t i = 0; i < kPageSlices; ++i) damaged += found.marks[i] != expected.marks[i] ? 1 : 0;
  return damaged <= 1 ? Verdict::kFlipped : Verdict::kTorn;
}

}  // namespace lcrun::storage
