// Runs a body once per kernel table that this processor can run, and restores the one that was in use.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "src/kernels/ops.hpp"

namespace lcrun::test {

template <class Body>
void for_each_isa(Body body) {
  const std::string before{kernels::active_isa()};
  for (const std::string& isa : kernels::available_isas()) {
    REQUIRE(kernels::set_isa(isa).has_value());
    INFO("isa " << isa);
    body(isa);
  }
  REQUIRE(kernels::set_isa(before).has_value());
}

}  // namespace lcrun::test
