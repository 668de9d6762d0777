#include "src/base/log.hpp"

#include <atomic>
#include <cstdio>
#include <mutex>

namespace lcrun {
namespace {
std::mutex sink_mutex;
LogSink sink_function;  // guarded by sink_mutex
std::atomic<LogLevel> threshold{LogLevel::kInfo};
}  // namespace

void set_log_sink(LogSink sink) {
  const std::lock_guard<std::mutex> lock(sink_mutex);
  sink_function = std::move(sink);
}

void set_log_level(LogLevel level) { threshold = level; }
LogLevel log_level() { return threshold; }

void log_line(LogLevel level, std::string_view text) {
  const std::lock_guard<std::mutex> lock(sink_mutex);
  if (sink_function) {
    sink_function(level, text);
    return;
  }
  const char* prefix = level == LogLevel::kError ? "error: " : level == LogLevel::kWarn ? "warning: " : "";
  std::fprintf(stderr, "lcrun: %s%.*s\n", prefix, static_cast<int>(text.size()), text.data());
}

}  // namespace lcrun
