#include "src/kernels/describe.hpp"

#include <algorithm>
#include <cstdio>

#include "quant/format.hpp"
#include "src/kernels/matmul_layout.hpp"

namespace lcrun::kernels {
namespace {

// In the order of src/kernels/meson.build; rows of one table stand together.
constexpr ProductChoice kChoices[] = {
    {"scalar", 1, kGroupRows, "C++ without vector instructions"},
    {"avx2", 1, kGroupRows, "int8 by VPMADDUBSW, 256 bits, exact"},
    {"avxvnni", 1, kGroupRows, "int8 by VPDPBUSD, 256 bits"},
    {"avx512", 1, kGroupRows, "int8 by VPMADDUBSW, 512 bits, exact"},
    {"avx512vnni", 1, kGroupRows, "int8 by VPDPBUSD, 512 bits"},
    {"avx512amx", 1, 7, "int8 by VPDPBUSD, 512 bits"},
    {"avx512amx", 8, kGroupRows, "int8 by AMX tiles (super blocks: in groups of 16)"},
    {"neon", 1, kGroupRows, "int8 by SMULL and SADALP, 128 bits"},
    {"neondot", 1, kGroupRows, "int8 by SDOT, 128 bits"},
};

}  // namespace

std::span<const ProductChoice> product_choices(std::string_view isa) {
  const auto is_of = [&](const ProductChoice& choice) { return choice.isa == isa; };
  const auto* first = std::find_if(std::begin(kChoices), std::end(kChoices), is_of);
  const auto* last = std::find_if_not(first, std::end(kChoices), is_of);
  return {first, last};
}

bool find_prepared_form(DType dtype, PreparedForm& form) {
  const quant::QuantOps* ops = quant::find_ops(dtype);
  if (ops == nullptr) return false;
  if (ops->unpack == nullptr) {
    form = {true, 0, 8.0 * quant::find_type(dtype)->block_bytes};
    return true;
  }
  if (std::find(std::begin(kPackings), std::end(kPackings), ops->packing) == std::end(kPackings)) return false;
  // Of one run of steps; panels are rounded up to cache lines beyond that.
  const int steps = run_steps(ops->packing);
  const int bytes = steps * code_bytes(ops->packing) + run_bytes(ops->packing);
  form = {false, ops->packing.sub_block, 8.0 * bytes / (kPanelRows * steps * kStep)};
  return true;
}

std::string PreparedForm::text() const {
  char line[96];
  std::snprintf(line, sizeof(line), "panels of %d rows, %.2f bits a weight", kPanelRows, bits_per_weight);
  std::string found = line;
  if (!is_float) found += ", a scale for each " + std::to_string(inputs_per_scale) + " inputs";
  return found;
}

}  // namespace lcrun::kernels
