// Lines that a person types: on a terminal with editing and a history to go back to (libedit), otherwise as they come.
//
// A pressed Ctrl-C ends the line that is being typed; what that means is the caller's business.
// Thread rule: the main thread; one reader at a time on a terminal.
#pragma once

#include <memory>
#include <string>

namespace lcrun::cli {

enum class LineEvent { kLine, kEnd, kInterrupted };

class LineReader {
 public:
  // Sets the program's character type to UTF-8 when on a terminal: libedit measures what it shows by it.
  LineReader(bool on_terminal, bool colored);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // Shows `prompt` (a terminal only) and reads one line without its end, as UTF-8.
  LineEvent read(const char* prompt, std::string& line);
  // Makes `line` what the arrow key brings back first.
  void remember(const std::string& line);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null where there is no terminal
};

}  // namespace lcrun::cli
