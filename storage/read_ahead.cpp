#include "storage/read_ahead.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#if LCRUN_HAVE_URING
#include <liburing.h>
#endif

namespace lcrun::storage {
namespace {

// The pages that hold `memory`.
std::span<std::byte> pages_of(std::span<const std::byte> memory) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(memory.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(memory.data()) + memory.size();
  return {reinterpret_cast<std::byte*>(first), static_cast<size_t>(end - first)};
}

void advise_now(std::span<const std::byte> memory) {
  const auto pages = pages_of(memory);
  static_cast<void>(madvise(pages.data(), pages.size(), MADV_WILLNEED));
}

class PlainReadAhead final : public ReadAhead {
 public:
  void will_need(std::span<const std::byte> memory) override { advise_now(memory); }
};

#if LCRUN_HAVE_URING

class UringReadAhead final : public ReadAhead {
 public:
  static constexpr unsigned kDepth = 64;  // hints under way

  explicit UringReadAhead(const io_uring& ring) : ring_(ring) {}
  UringReadAhead(const UringReadAhead&) = delete;
  UringReadAhead& operator=(const UringReadAhead&) = delete;
  ~UringReadAhead() override { io_uring_queue_exit(&ring_); }  // hints that have not begun are not needed any more

  void will_need(std::span<const std::byte> memory) override {
    forget_done();
    io_uring_sqe* sqe = under_way_ < kDepth && works_ ? io_uring_get_sqe(&ring_) : nullptr;
    if (sqe == nullptr) return advise_now(memory);
    const auto pages = pages_of(memory);
    io_uring_prep_madvise(sqe, pages.data(), static_cast<off_t>(pages.size()), MADV_WILLNEED);
    ++under_way_;
    works_ = io_uring_submit(&ring_) >= 0;
  }

 private:
  void forget_done() {
    io_uring_cqe* cqe = nullptr;
    while (under_way_ > 0 && io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe != nullptr) {
      io_uring_cqe_seen(&ring_, cqe);
      --under_way_;
    }
  }

  io_uring ring_;
  unsigned under_way_ = 0;
  bool works_ = true;
};

#endif

}  // namespace

std::unique_ptr<ReadAhead> make_read_ahead() {
#if LCRUN_HAVE_URING
  io_uring ring{};
  if (io_uring_queue_init(UringReadAhead::kDepth, &ring, 0) == 0) return std::make_unique<UringReadAhead>(ring);
#endif
  return std::make_unique<PlainReadAhead>();
}

}  // namespace lcrun::storage
