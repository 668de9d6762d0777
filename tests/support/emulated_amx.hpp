// Matrix products of the AMX tables with the tile instructions emulated (emulated_tiles.hpp): over the scalar backend,
// for any processor, and on x86-64 over that of AVX-512 with VNNI (LCRUN_EMULATED_AMX_512), for processors with that.
#pragma once

#include <atomic>
#include <cstdint>

#include "src/kernels/slots.hpp"

namespace lcrun::test {

struct EmulatedAmx {
  const char* name;
  kernels::MatmulSlots matmul;
  const std::atomic<bool>& misused;
  const std::atomic<int64_t>& multiplications;  // of tiles so far
};

}  // namespace lcrun::test

namespace lcrun::kernels {
namespace emulated_amx {
extern const test::EmulatedAmx emulated;
}
namespace emulated_amx_512 {
extern const test::EmulatedAmx emulated;
}
}  // namespace lcrun::kernels
