// What this processor can do, as far as the operating system lets programs use it.
#pragma once

#include <string>

namespace lcrun {

struct CpuFeatures {
  bool avx2 = false;        // AVX2 + FMA + F16C, and the OS saves YMM
  bool avx512 = false;      // F, BW, DQ, VL, CD, and the OS saves ZMM
  bool avx512vnni = false;  // the above and VNNI
  bool avx_vnni = false;    // VEX-coded VNNI
  bool avx512bf16 = false;
  bool amx_int8 = false;  // tiles, int8, and the kernel grants the tile state on request
  bool neon = false;
  bool neon_dot = false;  // the dot product of ARMv8.2
};

// Detected once.
const CpuFeatures& cpu_features();

// Model name as /proc/cpuinfo gives it, or "unknown".
std::string cpu_model_name();

}  // namespace lcrun
