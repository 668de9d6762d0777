#include "cli/output.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "src/base/format.hpp"

namespace lcrun::cli {
namespace {

// std::getenv is only unsafe beside setenv, which we never call.
std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

std::string clock_text(double seconds) {
  const auto total = static_cast<int64_t>(seconds + 0.5);
  char text[32];
  if (total >= 3600) {
    std::snprintf(text, sizeof(text), "%d:%02d:%02d", static_cast<int>(total / 3600), static_cast<int>(total / 60 % 60),
                  static_cast<int>(total % 60));
  } else {
    std::snprintf(text, sizeof(text), "%d:%02d", static_cast<int>(total / 60), static_cast<int>(total % 60));
  }
  return text;
}

}  // namespace

Status Output::failed(const char* operation) {
  const int number = errno;
  std::clearerr(stdout);
  if (number == EPIPE) {
    reader_gone_ = true;
    return make_error(Code::kCancelled, "standard output was closed by its reader");
  }
  const Code code = number == ENOSPC || number == EDQUOT ? Code::kNoSpace : Code::kIo;
  return make_error(code, "standard output: {} failed: {}", operation, std::strerror(number));
}

Status Output::write(std::string_view text) {
  if (text.empty()) return {};
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) return failed("write");
  return {};
}

Status Output::flush() {
  errno = 0;
  if (std::fflush(stdout) != 0) return failed("write");
  return {};
}

bool stdin_is_terminal() { return isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

bool use_color(std::string_view when) {
  if (when != "auto") return when == "on";
  if (!environment("NO_COLOR").empty() || environment("TERM") == "dumb") return false;
  return stdout_is_terminal();
}

ProgressLine::ProgressLine(std::string label, std::string unit)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      enabled_(stderr_is_terminal() && environment("TERM") != "dumb") {}

void ProgressLine::update(int64_t done, int64_t total) {
  if (!enabled_ || total <= 0) return;
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double since_shown = std::chrono::duration<double>(now - shown_).count();
  if (elapsed < 1.0 || since_shown < 0.2 || done <= 0) return;
  shown_ = now;
  visible_ = true;
  const double rate = static_cast<double>(done) / elapsed;
  const double left = static_cast<double>(total - done) / rate;
  std::fprintf(stderr, "\r\033[K%s %3d %%  %.0f %s/s  ETA %s", label_.c_str(),
               static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total)), rate, unit_.c_str(),
               clock_text(left).c_str());
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (!visible_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  visible_ = false;
}

}  // namespace lcrun::cli
