// Laws of the page store under faults; bench/storage_sim runs the same cases by the million.
#include "storage/sim_case.hpp"

#include <array>
#include <catch2/catch.hpp>

using namespace lcrun;
using namespace lcrun::storage;

namespace {

struct Tally {
  std::array<uint64_t, kSimVerdicts> verdicts{};
  uint64_t faults = 0, detected = 0;
  void run(const SimCase& which) {
    const SimResult result = run_sim_case(which);
    ++verdicts[static_cast<size_t>(result.verdict)];
    faults += result.faults;
    detected += result.detected;
    if (result.verdict == SimVerdict::kWrong) {
      FAIL_CHECK("seed " << which.seed << ", " << sim_work_name(which.work) << ": " << result.wrong);
    }
  }
  uint64_t of(SimVerdict verdict) const { return verdicts[static_cast<size_t>(verdict)]; }
};

}  // namespace

TEST_CASE("on a good disk every piece of work gives the twin's bytes and no error", "[storage][law]") {
  Tally tally;
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SimCase which;
    which.seed = seed;
    which.work = static_cast<SimWork>(seed % kSimWorks);
    which.depth = 1 + static_cast<uint32_t>(seed % 9);
    tally.run(which);
  }
  CHECK(tally.of(SimVerdict::kSame) == 3000);
  CHECK(tally.detected == 0);
}

TEST_CASE("whatever one kind of fault does, bytes are right or there is an error", "[storage][law]") {
  for (uint32_t f = 1; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    INFO(fault_name(fault));
    Tally tally;
    for (uint64_t seed = 1; seed <= 720; ++seed) {
      SimCase which;
      which.seed = seed * 31 + f;
      which.work = static_cast<SimWork>(seed % kSimWorks);
      which.depth = 1 + static_cast<uint32_t>(seed % 5) * 4;
      which.faults.seed = seed;
      which.faults.per_thousand[f] = seed % 3 == 0 ? 300 : seed % 3 == 1 ? 50 : 1000;
      tally.run(which);
    }
    const bool syncs = fault == Fault::kSyncError;  // scratch pages are not synced
    CHECK((tally.faults > 0) != syncs);
    const bool lies = fault == Fault::kTornWrite || fault == Fault::kLostWrite || fault == Fault::kZeroedWrite ||
                      fault == Fault::kMisplacedWrite || fault == Fault::kMisplacedRead ||
                      fault == Fault::kFlipOnRead || fault == Fault::kFlipOnWrite || fault == Fault::kByteOnWrite;
    if (lies) CHECK(tally.detected > 0);
  }
}

TEST_CASE("faults of all kinds together and power cuts give right bytes or an error", "[storage][law]") {
  Tally tally;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    SimCase which;
    which.seed = seed;
    which.work = static_cast<SimWork>(seed % kSimWorks);
    which.faults.seed = seed ^ 0x5555;
    which.power_cuts = seed % 4 == 0;
    SimRandom random(seed);
    for (int i = 0; i < 3; ++i) which.faults.per_thousand[1 + random.below(kFaults - 1)] = 20;
    tally.run(which);
  }
  CHECK(tally.of(SimVerdict::kRecomputed) > 100);
  CHECK(tally.of(SimVerdict::kSame) > 100);
}

TEST_CASE("failing the first, second, third operation of each kind in turn leaves a store that works", "[storage]") {
  for (uint32_t f = 1; f < kFaults; ++f) {
    const auto fault = static_cast<Fault>(f);
    if (fault == Fault::kSyncError) continue;
    INFO(fault_name(fault));
    uint64_t befell = 0;
    for (int64_t nth = 0; nth < 60; ++nth) {
      SimCase which;
      which.seed = 77;
      which.work = static_cast<SimWork>(nth % kSimWorks);
      which.faults.nth_fault = fault;
      which.faults.nth = nth / kSimWorks;
      Tally tally;
      tally.run(which);
      befell += tally.faults;
    }
    CHECK(befell > 0);
  }
}
