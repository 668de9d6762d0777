// ByteStream: a file, a pipe or standard input, read from front to back as it comes.
//
// For texts that are longer than what anybody wants to hold: the reader says how much it takes at a time.
// Thread rule: one thread.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>

#include "src/base/result.hpp"

namespace lcrun {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Waits for at least one byte; 0 at the end of the stream. kCancelled: a signal came, and the flag was set. kIo.
  virtual Result<size_t> read(std::span<char> out) = 0;
};

// "-" is standard input. `cancel` may be null; it must outlive the stream. kIo: it cannot be opened.
Result<std::unique_ptr<ByteStream>> open_byte_stream(const std::string& path, const std::atomic<bool>* cancel);

}  // namespace lcrun
