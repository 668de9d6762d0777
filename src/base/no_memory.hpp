// or_no_memory(body): the Result of body, and kNoMemory where the standard library throws for want of memory.
//
// For work whose tables grow with its input. The message needs no memory itself.
#pragma once

#include <new>
#include <utility>

#include "src/base/result.hpp"

namespace lcrun {

template <class Body>
auto or_no_memory(Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return Error{Code::kNoMemory, "out of memory"};
  }
}

}  // namespace lcrun
