#include "storage/page_format.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "tests/support/random.hpp"

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint64_t kPayload = 5000;

PageIdentity identity_of(uint64_t block, uint64_t generation) {
  PageIdentity identity;
  for (size_t i = 0; i < identity.session.size(); ++i) identity.session[i] = static_cast<uint8_t>(i * 7);
  identity.layer = 3;
  identity.block = block;
  identity.generation = generation;
  return identity;
}

std::vector<std::byte> page_of(uint64_t seed, const PageIdentity& identity) {
  std::vector<std::byte> extent(extent_bytes(kPayload, 512));
  test::Random random(seed);
  for (size_t i = 0; i < kPayload; ++i) extent[i] = static_cast<std::byte>(random.below(256));
  seal_page(extent, kPayload, identity);
  return extent;
}

}  // namespace

TEST_CASE("a page is ok under the identity that it was sealed with and no other", "[storage]") {
  const PageIdentity identity = identity_of(9, 100);
  const auto extent = page_of(1, identity);
  CHECK(extent.size() % 512 == 0);
  CHECK(check_page(extent, kPayload, identity) == Verdict::kOk);
  CHECK(check_page(extent, kPayload, identity_of(10, 100)) == Verdict::kOtherIdentity);
  CHECK(check_page(extent, kPayload, identity_of(9, 101)) == Verdict::kOlderGeneration);
  CHECK(check_page(extent, kPayload, identity_of(9, 99)) == Verdict::kOtherIdentity);
  CHECK(check_page(extent, kPayload - 1, identity) == Verdict::kOtherIdentity);
  for (int field = 0; field < 3; ++field) {
    PageIdentity other = identity;
    if (field == 0) other.session[15] ^= 1;
    if (field == 1) other.layer = 4;
    if (field == 2) other.head_group = 1;
    CHECK(check_page(extent, kPayload, other) == Verdict::kOtherIdentity);
  }
}

TEST_CASE("every single flipped bit of a page's payload and seal is seen", "[storage]") {
  const PageIdentity identity = identity_of(0, 1);
  auto extent = page_of(2, identity);
  size_t missed = 0, named_flipped = 0, flips = 0;
  for (size_t at = 0; at < extent.size(); ++at) {
    if (at >= kPayload && at < extent.size() - kSealBytes) continue;  // padding: nobody reads it
    const auto mask = static_cast<std::byte>(1U << (at % 8));
    extent[at] ^= mask;
    const Verdict verdict = check_page(extent, kPayload, identity);
    extent[at] ^= mask;
    ++flips;
    missed += verdict == Verdict::kOk ? 1 : 0;
    named_flipped += verdict == Verdict::kFlipped ? 1 : 0;
  }
  CHECK(missed == 0);
  CHECK(named_flipped >= flips - 4);  // four bytes of magic look like no seal at all
}

TEST_CASE("a page whose sectors are of two writes is not ok, wherever the cut lies", "[storage]") {
  const auto older = page_of(3, identity_of(5, 7));
  const auto newer = page_of(4, identity_of(5, 8));
  for (size_t cut = 512; cut < newer.size(); cut += 512) {
    auto mixed = older;
    std::memcpy(mixed.data(), newer.data(), cut);
    CHECK(check_page(mixed, kPayload, identity_of(5, 8)) == Verdict::kOlderGeneration);
    auto other_order = newer;
    std::memcpy(other_order.data(), older.data(), cut);
    const Verdict verdict = check_page(other_order, kPayload, identity_of(5, 8));
    CHECK((verdict == Verdict::kTorn || (verdict == Verdict::kFlipped && cut <= 1024)));
  }
}

TEST_CASE("zeros, noise and payloads smaller than a slice are told apart from a page", "[storage]") {
  const PageIdentity identity = identity_of(1, 1);
  CHECK(check_page(std::vector<std::byte>(512), 100, identity) == Verdict::kTorn);
  for (const uint64_t payload : {uint64_t{0}, uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{384}}) {
    std::vector<std::byte> extent(512, std::byte{0x5A});
    CHECK(check_page(extent, payload, identity) == Verdict::kTorn);
    seal_page(extent, payload, identity);
    CHECK(check_page(extent, payload, identity) == Verdict::kOk);
  }
  for (uint32_t verdict = 0; verdict < kVerdicts; ++verdict) {
    CHECK(std::string(verdict_name(static_cast<Verdict>(verdict))) != "unknown");
  }
}
