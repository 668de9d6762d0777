#include "cli/background_reading.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>

#include "cli/output.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"

namespace lcrun::cli {
namespace {

constexpr auto kBetweenLooks = std::chrono::milliseconds(50);

}  // namespace

void BackgroundReading::start() {
  if (thread_.joinable()) {
    if (!ended_.load()) return;
    thread_.join();
  }
  const auto held = session_.tokens();
  const auto differs = std::mismatch(tokens_.begin(), tokens_.end(), held.begin(), held.end());
  if (differs.first == tokens_.end()) return;
  stops_ = false;
  ended_ = false;
  // Ctrl-C is for the thread that waits for a line.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { read(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void BackgroundReading::read() {
  const auto progress = [&](int64_t done, int64_t) {
    done_ = done;
    return !stops_.load();
  };
  const auto logits = session_.sync(tokens_, progress, INT64_MAX);
  result_ = logits.has_value() ? Status() : Status(logits.error());
  ended_ = true;
}

Status BackgroundReading::wait() {
  start();
  if (!thread_.joinable()) return {};
  ProgressLine line("Reading", "tokens");
  while (!ended_.load()) {
    line.update(done_.load(), static_cast<int64_t>(tokens_.size()));
    std::this_thread::sleep_for(kBetweenLooks);
  }
  line.clear();
  thread_.join();
  if (interrupted()) return make_error(Code::kCancelled, "reading was stopped");
  return result_;
}

void BackgroundReading::stop() {
  if (!thread_.joinable()) return;
  stops_ = true;
  thread_.join();
}

}  // namespace lcrun::cli
