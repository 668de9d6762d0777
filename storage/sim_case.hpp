// One simulated case: a page store over a faulty disk does a seeded piece of work, beside a twin that only remembers.
//
// Whatever the disk does, a pin must give the twin's bytes or an error; after an error the block is made again, as the
// runtime makes it again from the tokens, and the work goes on. tests/unit/storage runs thousands of cases,
// bench/storage_sim millions. Thread rule: one thread per case.
#pragma once

#include <cstdint>
#include <string>

#include "storage/fault_device.hpp"

namespace lcrun::storage {

enum class SimWork : uint8_t {
  kPrefill,   // many blocks are appended, then read
  kDecode,    // few blocks are appended; all are read in turn, with reading ahead
  kReload,    // random reads of more blocks than there are frames
  kBranch,    // forks, writes into shared blocks
  kTruncate,  // back and forth
  kMany,      // four sequences at once, dropped and begun again
};
constexpr uint32_t kSimWorks = 6;
const char* sim_work_name(SimWork work);

struct SimCase {
  uint64_t seed = 1;
  SimWork work = SimWork::kPrefill;
  FaultPlan faults;
  bool power_cuts = false;  // the disk forgets what it will, at random times
  uint32_t depth = 8;
  uint32_t operations = 60;
};

enum class SimVerdict : uint8_t {
  kSame,        // every byte right, no error
  kRecomputed,  // errors; every block that failed was made again, and every byte right
  kCleanError,  // errors that the work could not get round (a full disk); every byte that was given was right
  kWrong,       // wrong bytes, an error without a fault, a leak: a bug
};
constexpr uint32_t kSimVerdicts = 4;
const char* sim_verdict_name(SimVerdict verdict);

struct SimResult {
  SimVerdict verdict = SimVerdict::kSame;
  uint64_t faults = 0;    // that befell the disk
  uint64_t detected = 0;  // pages whose check did not pass
  std::string wrong;      // what was, with kWrong
};

SimResult run_sim_case(const SimCase& which);

}  // namespace lcrun::storage
