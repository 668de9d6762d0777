// Standard output and standard error of the command line.
//
// What a person or a script wants goes to stdout, and a write that fails is noticed: a reader that has gone away
// (`| head`) ends the program quietly, a full disk is an error. Progress goes to stderr, and only to terminals.
// Thread rule: the main thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/result.hpp"

namespace lcrun::cli {

class Output {
 public:
  // Buffered; kCancelled when the reader has gone away (see reader_gone()), kIo or kNoSpace otherwise.
  Status write(std::string_view text);
  Status flush();
  // Did a write fail because nobody reads any more?
  bool reader_gone() const { return reader_gone_; }

 private:
  Status failed(const char* operation);
  bool reader_gone_ = false;
};

// "Reading prompt  42 %  1,234 tokens/s  ETA 0:12" on one line of stderr, for what takes longer than a second.
class ProgressLine {
 public:
  // Silent unless stderr is a terminal that can move its cursor.
  ProgressLine(std::string label, std::string unit);
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  void update(int64_t done, int64_t total);
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  std::string unit_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point shown_ = start_;
  bool enabled_;
  bool visible_ = false;
};

// Is the stream a terminal?
bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();
// Colour on stdout: --color, then NO_COLOR and TERM, then whether it is a terminal.
bool use_color(std::string_view when);

}  // namespace lcrun::cli
