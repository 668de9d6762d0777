// A long text that is read while a person thinks of a question.
//
// Between start() and the end of wait() or stop() the session belongs to a thread of this class; before and after that
// to the caller. Signals stay with the main thread.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

class BackgroundReading {
 public:
  // The session must outlive this.
  BackgroundReading(runtime::Session& session, std::vector<runtime::Token> tokens)
      : session_(session), tokens_(std::move(tokens)) {}
  ~BackgroundReading() { stop(); }
  BackgroundReading(const BackgroundReading&) = delete;
  BackgroundReading& operator=(const BackgroundReading&) = delete;

  const std::vector<runtime::Token>& tokens() const { return tokens_; }
  // Goes on with what is not read yet; nothing if all of it is, or while it is being read.
  void start();
  // Until all is read, with a progress line. kCancelled by a signal; errors of Session::sync().
  Status wait();
  // What is read so far is kept.
  void stop();

 private:
  void read();

  runtime::Session& session_;
  std::vector<runtime::Token> tokens_;
  std::thread thread_;
  std::atomic<bool> stops_{false};
  std::atomic<bool> ended_{false};
  std::atomic<int64_t> done_{0};
  Status result_;
};

}  // namespace lcrun::cli
