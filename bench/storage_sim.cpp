// storage_sim [CASES] [SEED]: the page store's fault matrix, CASES seeded cases over work x fault, compound ones too.
//
// Prints what became of them, fault by fault (the table of docs/reliability.md), and exits 1 if a single byte was
// wrong. A case that went wrong is printed with its seed, which is all that is needed to run it again.
#include <array>
#include <cstdio>
#include <cstdlib>

#include "storage/sim_case.hpp"

using namespace lcrun::storage;

namespace {

// Rows: each fault alone, then power cuts, then three faults at once.
constexpr uint32_t kPowerRow = kFaults, kCompoundRow = kFaults + 1, kRows = kFaults + 2;

const char* row_name(uint32_t row) {
  if (row == kPowerRow) return "power cut";
  if (row == kCompoundRow) return "three kinds, power cuts";
  return fault_name(static_cast<Fault>(row));
}

SimCase case_of(uint32_t row, uint64_t seed) {
  SimRandom random(seed);
  SimCase which;
  which.seed = random.next();
  which.work = static_cast<SimWork>(random.below(kSimWorks));
  which.depth = static_cast<uint32_t>(1 + random.below(16));
  which.faults.seed = random.next();
  const uint32_t rate = std::array<uint32_t, 4>{5, 50, 300, 1000}[random.below(4)];
  if (row > 0 && row < kFaults) which.faults.per_thousand[row] = rate;
  if (row == kCompoundRow) {
    for (int i = 0; i < 3; ++i) which.faults.per_thousand[1 + random.below(kFaults - 1)] = 20;
  }
  which.power_cuts = row == kPowerRow || (row == kCompoundRow && random.once_in(2));
  return which;
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t cases = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::array<std::array<uint64_t, kSimVerdicts>, kRows> table{};
  std::array<uint64_t, kRows> faults{}, detected{};
  for (uint64_t i = 0; i < cases; ++i) {
    const auto row = static_cast<uint32_t>(i % kRows);
    const SimResult result = run_sim_case(case_of(row, seed * 0x9E3779B97F4A7C15ULL + i));
    ++table[row][static_cast<size_t>(result.verdict)];
    faults[row] += result.faults;
    detected[row] += result.detected;
    if (result.verdict == SimVerdict::kWrong) {
      std::printf("WRONG: case %llu of seed %llu, %s: %s\n", static_cast<unsigned long long>(i),
                  static_cast<unsigned long long>(seed), row_name(row), result.wrong.c_str());
    }
  }
  uint64_t wrong = 0;
  std::printf(
      "| fault | cases | faults | bad pages seen | same bytes | made again, same bytes | clean error | wrong |\n");
  std::printf("|---|---|---|---|---|---|---|---|\n");
  for (uint32_t row = 0; row < kRows; ++row) {
    uint64_t all = 0;
    for (const uint64_t count : table[row]) all += count;
    std::printf("| %s | %llu | %llu | %llu", row_name(row), static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(faults[row]), static_cast<unsigned long long>(detected[row]));
    for (const uint64_t count : table[row]) std::printf(" | %llu", static_cast<unsigned long long>(count));
    std::printf(" |\n");
    wrong += table[row][static_cast<size_t>(SimVerdict::kWrong)];
  }
  std::printf("%llu cases, %llu wrong\n", static_cast<unsigned long long>(cases),
              static_cast<unsigned long long>(wrong));
  return wrong == 0 ? 0 : 1;
}
