// Log lines for people: to stderr by default, or to a callback set by whoever embeds us.
//
// Never called from hot loops or from inside parallel_for bodies. Thread rule: any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "src/base/format.hpp"

namespace lcrun {

enum class LogLevel : uint8_t { kDebug = 0, kInfo = 1, kWarn = 2, kError = 3, kOff = 4 };

using LogSink = std::function<void(LogLevel, std::string_view)>;

// An empty sink restores stderr. Lines below `level` are dropped (default kInfo).
void set_log_sink(LogSink sink);
void set_log_level(LogLevel level);
LogLevel log_level();
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void log(LogLevel level, std::string_view text, const Args&... args) {
  if (level >= log_level()) log_line(level, format(text, args...));
}

}  // namespace lcrun
