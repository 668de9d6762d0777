// The slots of a kernel table, grouped by the header that fills them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lcrun::kernels {

// matmul_impl.hpp
struct MatmulSlots {
  int placeholder = 0;
};

// elementwise_impl.hpp and scan_impl.hpp: see ops.hpp for the contracts
struct OpSlots {
  int placeholder = 0;
};

// attention_impl.hpp
struct AttentionSlots {
  int placeholder = 0;
};

struct Kernels {
  const char* name;
  MatmulSlots matmul;
  OpSlots ops;
  AttentionSlots attention;
};

}  // namespace lcrun::kernels
