#include "storage/io_queue.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <vector>

#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/random.hpp"

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint32_t kExtent = 2048;
constexpr uint64_t kExtents = 16;

struct Rig {
  explicit Rig(const FaultPlan& plan, uint64_t seed = 1) {
    auto sim = std::make_unique<SimDevice>(SimConfig{.seed = seed, .capacity = kExtent * kExtents});
    disk = sim.get();
    device = std::make_unique<FaultDevice>(std::move(sim), plan);
    REQUIRE(disk->allocate(kExtent * kExtents).has_value());
  }
  // One request after another, each waited for: its error.
  int once(IoQueue& queue, IoOp op, uint64_t extent, std::byte* data) {
    queue.start({op, extent * kExtent, data, op == IoOp::kSync ? 0 : kExtent, 77});
    IoOutcome outcome;
    REQUIRE(queue.poll({&outcome, 1}, true) == 1);
    CHECK(outcome.ticket == 77);
    return outcome.error;
  }
  SimDevice* disk = nullptr;
  std::unique_ptr<FaultDevice> device;
};

std::vector<std::byte> noise(uint64_t seed) {
  test::Random random(seed);
  std::vector<std::byte> bytes(kExtent);
  for (auto& b : bytes) b = static_cast<std::byte>(random.below(256));
  return bytes;
}

FaultPlan nth(Fault fault, int64_t n) {
  FaultPlan plan;
  plan.nth_fault = fault;
  plan.nth = n;
  return plan;
}

}  // namespace

TEST_CASE("a full queue of writes and then reads gives every byte back, in any order of completion", "[storage]") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Rig rig({}, seed);
    IoQueue queue(*rig.device);
    std::vector<std::vector<std::byte>> written, read(kExtents, std::vector<std::byte>(kExtent));
    for (uint64_t i = 0; i < kExtents; ++i) written.push_back(noise(seed * 100 + i));
    for (const IoOp op : {IoOp::kWrite, IoOp::kRead}) {
      uint64_t next = 0, done = 0;
      while (done < kExtents) {
        while (next < kExtents && queue.has_room()) {
          queue.start(
              {op, next * kExtent, op == IoOp::kWrite ? written[next].data() : read[next].data(), kExtent, next});
          ++next;
        }
        IoOutcome outcomes[3];
        const size_t n = queue.poll(outcomes, true);
        REQUIRE(n > 0);
        for (size_t i = 0; i < n; ++i) CHECK(outcomes[i].error == 0);
        done += n;
      }
    }
    CHECK(read == written);
    CHECK(queue.stats().bytes_read == kExtent * kExtents);
  }
}

TEST_CASE("short counts, EAGAIN, EINTR and one EIO of a read are mended without a trace in the bytes", "[storage]") {
  const Fault mended[] = {Fault::kShortRead, Fault::kShortWrite,  Fault::kSubmitAgain,
                          Fault::kAgain,     Fault::kInterrupted, Fault::kReadError};
  for (const Fault fault : mended) {
    for (int64_t n = 0; n < 2; ++n) {
      INFO(fault_name(fault) << " at " << n);
      Rig rig(nth(fault, n));
      IoQueue queue(*rig.device);
      auto a = noise(1), b = noise(2);
      std::vector<std::byte> got(kExtent);
      CHECK(rig.once(queue, IoOp::kWrite, 3, a.data()) == 0);
      CHECK(rig.once(queue, IoOp::kWrite, 4, b.data()) == 0);
      CHECK(rig.once(queue, IoOp::kRead, 3, got.data()) == 0);
      CHECK(got == a);
      CHECK(rig.once(queue, IoOp::kRead, 4, got.data()) == 0);
      CHECK(got == b);
      CHECK(rig.device->injected() == 1);
      CHECK(queue.stats().retries == 1);
    }
  }
}

TEST_CASE("what never gets better becomes an error after a bounded number of tries", "[storage]") {
  struct Case {
    Fault fault;
    IoOp op;
    int error;
  };
  const Case cases[] = {{Fault::kReadError, IoOp::kRead, EIO},     {Fault::kWriteError, IoOp::kWrite, EIO},
                        {Fault::kNoSpace, IoOp::kWrite, ENOSPC},   {Fault::kSyncError, IoOp::kSync, EIO},
                        {Fault::kAgain, IoOp::kRead, EAGAIN},      {Fault::kInterrupted, IoOp::kWrite, EINTR},
                        {Fault::kSubmitAgain, IoOp::kRead, EAGAIN}};
  for (const Case& c : cases) {
    INFO(fault_name(c.fault));
    FaultPlan plan;
    plan.per_thousand[static_cast<size_t>(c.fault)] = 1000;
    Rig rig(plan);
    IoQueue queue(*rig.device);
    auto bytes = noise(1);
    CHECK(rig.once(queue, c.op, 0, bytes.data()) == c.error);
    CHECK(queue.in_flight() == 0);
    CHECK(rig.device->injected() <= 1001);
    rig.device->heal();
    CHECK(rig.once(queue, IoOp::kWrite, 0, bytes.data()) == 0);  // usable afterwards
  }
}

TEST_CASE("a write or a sync that fails once is not tried again", "[storage]") {
  auto bytes = noise(1);
  Rig write(nth(Fault::kWriteError, 0));
  IoQueue writes(*write.device);
  CHECK(write.once(writes, IoOp::kWrite, 0, bytes.data()) == EIO);
  Rig sync(nth(Fault::kSyncError, 0));
  IoQueue syncs(*sync.device);
  CHECK(sync.once(syncs, IoOp::kSync, 0, nullptr) == EIO);
}

TEST_CASE("after a power cut what was synced is there and the rest may be", "[storage]") {
  size_t lost = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Rig rig({}, seed);
    IoQueue queue(*rig.device);
    auto synced = noise(1), newer = noise(2);
    std::vector<std::byte> got(kExtent);
    REQUIRE(rig.once(queue, IoOp::kWrite, 0, synced.data()) == 0);
    REQUIRE(rig.once(queue, IoOp::kSync, 0, nullptr) == 0);
    REQUIRE(rig.once(queue, IoOp::kWrite, 1, newer.data()) == 0);
    rig.disk->power_cut();
    REQUIRE(rig.once(queue, IoOp::kRead, 0, got.data()) == 0);
    CHECK(got == synced);
    REQUIRE(rig.once(queue, IoOp::kRead, 1, got.data()) == 0);
    lost += got == newer ? 0 : 1;
  }
  CHECK(lost > 20);
}

TEST_CASE("reading past the end and unaligned requests are errors", "[storage]") {
  Rig rig({});
  IoQueue queue(*rig.device);
  auto bytes = noise(1);
  CHECK(rig.once(queue, IoOp::kRead, kExtents, bytes.data()) == ENODATA);
  queue.start({IoOp::kRead, 100, bytes.data(), kExtent, 5});
  IoOutcome outcome;
  REQUIRE(queue.poll({&outcome, 1}, true) == 1);
  CHECK(outcome.error == EINVAL);
  CHECK(io_error("x: read", ENOSPC).code == Code::kNoSpace);
  CHECK(io_error("x: read", ENODATA).message == "x: read failed: end of file");
}
