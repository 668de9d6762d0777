// The threads backend: a pool that calls pread, pwrite and fdatasync, for systems where io_uring is forbidden.
//
// Thread rule: the driving thread calls the interface; workers touch the two queues under one mutex, and the memory of
// a request between its submission and its completion.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/device_file.hpp"

namespace lcrun::storage {
namespace {

// A solid-state disk is busy with some ten requests of 64 KiB; more threads only wait.
constexpr uint32_t kMostThreads = 12;

class ThreadsDevice final : public BlockDevice {
 public:
  ThreadsDevice(DeviceFile file, uint32_t depth) : file_(std::move(file)), depth_(depth) {}
  ThreadsDevice(const ThreadsDevice&) = delete;
  ThreadsDevice& operator=(const ThreadsDevice&) = delete;
  ~ThreadsDevice() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    work_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  std::string name() const override { return "threads"; }
  uint32_t alignment() const override { return file_.alignment(); }
  uint32_t block_bytes() const override { return file_.block_bytes(); }
  uint32_t depth() const override { return depth_; }
  bool direct() const override { return file_.direct(); }
  Status allocate(uint64_t bytes) override { return file_.allocate(bytes); }
  void discard(uint64_t offset, uint64_t bytes) override { file_.discard(offset, bytes); }
  uint64_t now_ns() override { return monotonic_ns(); }

  int submit(std::span<const IoRequest> requests) override {
    if (threads_.empty() && !start_threads()) return -EAGAIN;
    size_t taken = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      while (taken < requests.size() && in_flight_ < depth_) {
        queue_[(first_ + queued_++) % depth_] = requests[taken++];
        ++in_flight_;
      }
    }
    for (size_t i = 0; i < std::min(taken, threads_.size()); ++i) work_.notify_one();
    return taken == 0 && !requests.empty() ? -EBUSY : static_cast<int>(taken);
  }

  int poll(std::span<IoDone> out, bool wait) override {
    std::unique_lock<std::mutex> lock(mutex_);
    if (wait) finished_.wait(lock, [this] { return !done_.empty() || in_flight_ == 0; });
    const size_t n = std::min(out.size(), done_.size());
    std::copy_n(done_.begin(), n, out.begin());
    done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(n));
    in_flight_ -= static_cast<uint32_t>(n);
    return static_cast<int>(n);
  }

 private:
  // On first use; one thread is enough to go on with.
  bool start_threads() {
    try {
      done_.reserve(depth_);
      queue_.resize(depth_);
      while (threads_.size() < std::min(depth_, kMostThreads)) threads_.emplace_back([this] { run(); });
    } catch (const std::exception&) {  // no more threads or no memory for them
    }
    return !threads_.empty();
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return stop_ || queued_ > 0; });
      if (queued_ == 0) return;  // what was submitted before the end is done
      const IoRequest request = queue_[first_];
      first_ = (first_ + 1) % depth_;
      --queued_;
      lock.unlock();
      const int64_t result = perform(request);
      lock.lock();
      done_.push_back({request.ticket, result});
      finished_.notify_one();
    }
  }

  int64_t perform(const IoRequest& request) const {
    const auto offset = static_cast<off_t>(request.offset);
    const int parts = static_cast<int>(request.parts.size());
    ssize_t n = 0;
    if (parts > 0) {
      n = request.op == IoOp::kRead ? preadv(file_.fd(), request.parts.data(), parts, offset)
                                    : pwritev(file_.fd(), request.parts.data(), parts, offset);
      return n < 0 ? -errno : n;
    }
    if (request.op == IoOp::kRead) n = pread(file_.fd(), request.data, request.size, offset);
    if (request.op == IoOp::kWrite) n = pwrite(file_.fd(), request.data, request.size, offset);
    if (request.op == IoOp::kSync) n = fdatasync(file_.fd());
    return n < 0 ? -errno : n;
  }

  DeviceFile file_;
  uint32_t depth_;
  std::mutex mutex_;
  std::condition_variable work_, finished_;
  std::vector<IoRequest> queue_;  // a ring of depth_; guarded by mutex_, like all that follows
  uint32_t first_ = 0, queued_ = 0;
  std::vector<IoDone> done_;
  uint32_t in_flight_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;  // the driving thread's own
};

}  // namespace

std::unique_ptr<BlockDevice> make_threads_device(DeviceFile file, uint32_t depth) {
  return std::make_unique<ThreadsDevice>(std::move(file), depth);
}

}  // namespace lcrun::storage
