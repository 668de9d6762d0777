// The io_uring backend: one ring, deep queue, the file and (where allowed) the memory registered with the kernel.
//
// liburing gives -errno and leaves errno alone. The ring's descriptor is closed on exec. A submission that the kernel
// puts off (EAGAIN, EBUSY, EINTR) stays in the ring and goes with the next call.
// Thread rule: one driving thread.
#include <cerrno>
#include <cstring>

#include "src/base/format.hpp"
#include "storage/device_file.hpp"

#if LCRUN_HAVE_URING
#include <liburing.h>

namespace lcrun::storage {
namespace {

class UringDevice final : public BlockDevice {
 public:
  UringDevice(DeviceFile file, const io_uring& ring, uint32_t depth)
      : file_(std::move(file)), ring_(ring), depth_(depth) {
    const int fd = file_.fd();
    fixed_file_ = io_uring_register_files(&ring_, &fd, 1) == 0;
  }
  UringDevice(const UringDevice&) = delete;
  UringDevice& operator=(const UringDevice&) = delete;
  ~UringDevice() override {
    // The kernel may still write into memory of requests: wait for each.
    IoDone ignored[16];
    while (in_flight_ > 0) {
      const int n = poll(ignored, true);
      if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY) break;
    }
    io_uring_queue_exit(&ring_);
  }

  std::string name() const override { return "uring"; }
  uint32_t alignment() const override { return file_.alignment(); }
  uint32_t block_bytes() const override { return file_.block_bytes(); }
  uint32_t depth() const override { return depth_; }
  bool direct() const override { return file_.direct(); }
  Status allocate(uint64_t bytes) override { return file_.allocate(bytes); }
  void discard(uint64_t offset, uint64_t bytes) override { file_.discard(offset, bytes); }
  uint64_t now_ns() override { return monotonic_ns(); }

  void use_memory(std::span<std::byte> memory) override {
    if (!memory_.empty() || memory.empty() || memory.size() > kLargestRegistered) return;
    const iovec piece{memory.data(), memory.size()};
    if (io_uring_register_buffers(&ring_, &piece, 1) == 0) memory_ = memory;
  }

  int submit(std::span<const IoRequest> requests) override {
    int taken = 0;
    for (const IoRequest& request : requests) {
      if (in_flight_ == depth_) break;
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      prepare(*sqe, request);
      ++in_flight_;
      ++taken;
    }
    const int rc = io_uring_submit(&ring_);
    if (rc < 0 && !put_off(rc)) broken_ = rc;
    return taken == 0 && !requests.empty() ? -EBUSY : taken;
  }

  int poll(std::span<IoDone> out, bool wait) override {
    if (broken_ != 0) return broken_;
    unsigned n = take(out);
    if (n > 0 || in_flight_ == 0) return static_cast<int>(n);
    const int rc = wait ? io_uring_submit_and_wait(&ring_, 1) : io_uring_submit(&ring_);
    if (rc < 0 && !put_off(rc)) return broken_ = rc;
    return static_cast<int>(take(out));
  }

 private:
  static constexpr size_t kLargestRegistered = size_t{1} << 30;  // of the kernel: one buffer

  static bool put_off(int rc) { return rc == -EAGAIN || rc == -EBUSY || rc == -EINTR; }

  void prepare(io_uring_sqe& sqe, const IoRequest& request) const {
    const int fd = fixed_file_ ? 0 : file_.fd();
    const auto parts = static_cast<unsigned>(request.parts.size());
    const bool registered = parts == 0 && !memory_.empty() && request.data >= memory_.data() &&
                            request.data + request.size <= memory_.data() + memory_.size();
    if (request.op == IoOp::kSync) io_uring_prep_fsync(&sqe, fd, IORING_FSYNC_DATASYNC);
    if (request.op == IoOp::kRead && registered)
      io_uring_prep_read_fixed(&sqe, fd, request.data, request.size, request.offset, 0);
    if (request.op == IoOp::kRead && parts > 0)
      io_uring_prep_readv(&sqe, fd, request.parts.data(), parts, request.offset);
    if (request.op == IoOp::kWrite && parts > 0)
      io_uring_prep_writev(&sqe, fd, request.parts.data(), parts, request.offset);
    if (request.op == IoOp::kRead && parts == 0 && !registered)
      io_uring_prep_read(&sqe, fd, request.data, request.size, request.offset);
    if (request.op == IoOp::kWrite && registered)
      io_uring_prep_write_fixed(&sqe, fd, request.data, request.size, request.offset, 0);
    if (request.op == IoOp::kWrite && parts == 0 && !registered)
      io_uring_prep_write(&sqe, fd, request.data, request.size, request.offset);
    if (fixed_file_) io_uring_sqe_set_flags(&sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(&sqe, request.ticket);
  }

  unsigned take(std::span<IoDone> out) {
    unsigned n = 0;
    io_uring_cqe* cqe = nullptr;
    while (n < out.size() && io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe != nullptr) {
      out[n++] = {io_uring_cqe_get_data64(cqe), cqe->res};
      io_uring_cqe_seen(&ring_, cqe);
      --in_flight_;
    }
    return n;
  }

  DeviceFile file_;
  io_uring ring_;
  uint32_t depth_;
  uint32_t in_flight_ = 0;
  int broken_ = 0;  // the ring itself failed
  bool fixed_file_ = false;
  std::span<std::byte> memory_;  // registered
};

}  // namespace

Result<std::unique_ptr<BlockDevice>> make_uring_device(DeviceFile& file, uint32_t depth) {
  io_uring ring{};
  const int rc = io_uring_queue_init(depth, &ring, 0);
  if (rc < 0) return make_error(Code::kUnsupported, "io_uring is not to be had here ({})", std::strerror(-rc));
  return std::unique_ptr<BlockDevice>(std::make_unique<UringDevice>(std::move(file), ring, depth));
}

}  // namespace lcrun::storage

#else

namespace lcrun::storage {

Result<std::unique_ptr<BlockDevice>> make_uring_device(DeviceFile&, uint32_t) {
  return make_error(Code::kUnsupported, "this build has no io_uring");
}

}  // namespace lcrun::storage
#endif
