// What the kernel tables would do, for people to read: `lcrun inspect --kernels`.
// Thread rule: constant data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "src/base/tensor.hpp"

namespace lcrun::kernels {

// Which code of a table multiplies quantised weights, by the number of activation rows in a group (at most 16).
// Bits never depend on it: a table has a second row only where its results are those of the first.
struct ProductChoice {
  std::string_view isa;
  int first_rows;  // of the group
  int last_rows;
  std::string_view by;
};

// The choices of a table by name, from few rows to many; empty for a name that no table has.
std::span<const ProductChoice> product_choices(std::string_view isa);

// The form in which weights of a format are multiplied.
struct PreparedForm {
  bool is_float = false;       // plain numbers, by float operations and activations as they are
  int inputs_per_scale = 0;    // 0 for plain numbers
  double bits_per_weight = 0;  // in memory, scales included
  std::string text() const;    // "panels of 16 rows, 5.00 bits a weight, a scale for each 32 inputs"
};

// False when there is no kernel for the format.
bool find_prepared_form(DType dtype, PreparedForm& form);

}  // namespace lcrun::kernels
