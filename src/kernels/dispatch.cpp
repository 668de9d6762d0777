// Chooses the kernel table: best available, or the one named by LCRUN_ISA or set_isa().
#include <atomic>
#include <cstdlib>
#include <vector>

#include "src/base/cpu.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/kernels/kernels.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::kernels {

#define LCRUN_ISA(name)       \
  namespace name {            \
  extern const Kernels table; \
  }
#include "isas.gen.h"
#undef LCRUN_ISA

namespace {

const Kernels* const kBuilt[] = {
#define LCRUN_ISA(name) &name::table,
#include "isas.gen.h"
#undef LCRUN_ISA
};

bool can_run(std::string_view name) {
  const CpuFeatures& cpu = cpu_features();
  if (name == "scalar") return true;
  if (name == "avx2") return cpu.avx2;
  if (name == "avxvnni") return cpu.avx_vnni;
  if (name == "avx512") return cpu.avx512;
  if (name == "avx512vnni") return cpu.avx512vnni;
  if (name == "avx512amx") return cpu.avx512vnni && cpu.amx_int8;
  if (name == "neon") return cpu.neon;
  if (name == "neondot") return cpu.neon_dot;
  return false;
}

const std::vector<const Kernels*>& runnable() {
  static const std::vector<const Kernels*> tables = [] {
    std::vector<const Kernels*> found;
    for (const Kernels* table : kBuilt) {
      if (can_run(table->name)) found.push_back(table);
    }
    return found;
  }();
  return tables;
}

const Kernels* find(std::string_view name) {
  if (name == "amx") name = "avx512amx";  // the short name that the command line knows
  for (const Kernels* table : runnable()) {
    if (name == table->name) return table;
  }
  return nullptr;
}

const Kernels* choose_default() {
  if (const char* wanted = std::getenv("LCRUN_ISA"); wanted != nullptr && *wanted != '\0') {
    if (const Kernels* table = find(wanted)) return table;
    log(LogLevel::kWarn, "LCRUN_ISA={}: not available here, using {}", wanted, runnable().back()->name);
  }
  return runnable().back();
}

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> table{choose_default()};
  return table;
}

}  // namespace

const Kernels& active() { return *chosen().load(std::memory_order_relaxed); }
std::span<const Kernels* const> available() { return runnable(); }
void set_table(const Kernels& table) { chosen() = &table; }
std::string_view active_isa() { return active().name; }

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : runnable()) names.emplace_back(table->name);
  return names;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : kBuilt) names.emplace_back(table->name);
  return names;
}

Status set_isa(std::string_view name) {
  const Kernels* table = find(name);
  if (table == nullptr) {
    std::string list;
    for (const std::string& isa : available_isas()) list += (list.empty() ? "" : ", ") + isa;
    return make_error(Code::kUnsupported, "isa: found {}, wanted one of: {}", name, list);
  }
  chosen() = table;
  return {};
}

}  // namespace lcrun::kernels
