#include "src/base/cpu.hpp"

#include <fstream>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace lcrun {
namespace {

#if defined(__x86_64__)
uint64_t os_saved_state() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

// Linux saves the tiles of a thread only in processes that asked for it, all threads at once (arch_prctl,
// ARCH_REQ_XCOMP_PERM of the state component XTILEDATA); kernels before 5.16 refuse.
bool granted_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

CpuFeatures detect() {
  CpuFeatures found;
  uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return found;
  const bool osxsave = (c >> 27) & 1;
  const bool fma = (c >> 12) & 1;
  const bool f16c = (c >> 29) & 1;
  if (!osxsave) return found;
  const uint64_t saved = os_saved_state();
  const bool ymm = (saved & 0x6) == 0x6;
  const bool zmm = (saved & 0xe6) == 0xe6;
  const bool tiles = (saved & 0x60000) == 0x60000;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  found.avx2 = ymm && fma && f16c && ((b >> 5) & 1);
  const bool f = (b >> 16) & 1, dq = (b >> 17) & 1, cd = (b >> 28) & 1, bw = (b >> 30) & 1, vl = (b >> 31) & 1;
  found.avx512 = found.avx2 && zmm && f && dq && cd && bw && vl;
  found.avx512vnni = found.avx512 && ((c >> 11) & 1);
  found.amx_int8 = tiles && ((d >> 24) & 1) && ((d >> 25) & 1) && granted_tiles();
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
    found.avx_vnni = found.avx2 && ((a >> 4) & 1);
    found.avx512bf16 = found.avx512 && ((a >> 5) & 1);
  }
  return found;
}
#elif defined(__aarch64__)
CpuFeatures detect() {
  CpuFeatures found;
  found.neon = true;  // part of the base architecture
#if defined(__linux__)
  found.neon_dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
  return found;
}
#else
CpuFeatures detect() { return {}; }
#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::string cpu_model_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) == 0) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

}  // namespace lcrun
