// LCRUN_CHECK: programmer errors only, never what a file, an option or the system can cause.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace lcrun {
[[noreturn]] inline void check_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "lcrun: internal check failed: %s (%s:%d)\n", what, file, line);
  std::abort();
}
}  // namespace lcrun

#define LCRUN_CHECK(cond)                                          \
  do {                                                             \
    if (!(cond)) ::lcrun::check_failed(#cond, __FILE__, __LINE__); \
  } while (0)

#ifdef NDEBUG
#define LCRUN_DCHECK(cond) ((void)0)
#else
#define LCRUN_DCHECK(cond) LCRUN_CHECK(cond)
#endif
