#include "storage/device_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "src/base/format.hpp"
#include "storage/io_queue.hpp"

namespace lcrun::storage {
namespace {

Error errno_error(const std::string& path, const char* operation) {
  const int number = errno;
  if (number == ENOENT) return make_error(Code::kNotFound, "{}: {} failed: no such file or directory", path, operation);
  return io_error(format("{}: {}", path, operation), number);
}

struct DirectAlignment {
  bool known = false;  // the kernel has said
  uint32_t bytes = 0;  // 0: no O_DIRECT on this file
};

DirectAlignment ask_kernel([[maybe_unused]] int fd) {
#ifdef STATX_DIOALIGN
  struct statx info {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN) != 0) {
    return {true, std::max(info.stx_dio_mem_align, info.stx_dio_offset_align)};
  }
#endif
  return {};
}

// Older kernels: reads that are aligned to 512 and to 4096 bytes; the first that is not refused decides. At the end
// of a file such a read gives 0, and is still refused where the alignment does not suit.
DirectAlignment probe(int fd) {
  constexpr size_t kProbe = 8192;
  std::unique_ptr<std::byte, decltype(&std::free)> memory(static_cast<std::byte*>(std::aligned_alloc(4096, kProbe)),
                                                          &std::free);
  if (!memory) return {true, 0};
  for (const uint32_t unit : {512U, 4096U}) {
    if (pread(fd, memory.get() + unit % 4096, unit, unit) >= 0) return {true, unit};
  }
  return {true, 0};
}

bool is_power_of_two(uint32_t n) { return n != 0 && (n & (n - 1)) == 0; }

}  // namespace

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000U + static_cast<uint64_t>(now.tv_nsec);
}

Result<DeviceFile> DeviceFile::scratch(const std::string& directory, bool direct) {
  const std::string label = directory + " (scratch)";
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    // File systems without O_TMPFILE: a name that is taken away at once.
    std::string name = directory + "/.lcrun-scratch-XXXXXX";
    fd = mkostemp(name.data(), O_CLOEXEC);
    if (fd >= 0) unlink(name.c_str());
  }
  if (fd < 0) return errno_error(label, "open");
  DeviceFile file(fd, label);
  file.scratch_ = true;
  file.settle_direct(direct);
  return file;
}

Result<DeviceFile> DeviceFile::for_reading(const std::string& path, bool direct) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return errno_error(path, "open");
  DeviceFile file(fd, path);
  struct stat info {};
  if (fstat(fd, &info) != 0) return errno_error(path, "fstat");
  if (!S_ISREG(info.st_mode)) return make_error(Code::kIo, "{}: wanted a regular file", path);
  file.settle_direct(direct);
  return file;
}

DeviceFile::DeviceFile(DeviceFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      scratch_(other.scratch_),
      direct_(other.direct_),
      alignment_(other.alignment_),
      allocated_(other.allocated_) {}

DeviceFile::~DeviceFile() {
  if (fd_ < 0) return;
  // A ring gives up its hold on the file some time after its end: the space need not wait for that.
  if (scratch_) (void)!ftruncate(fd_, 0);
  ::close(fd_);
}

void DeviceFile::settle_direct(bool wanted) {
  if (!wanted) return;
  const int flags = fcntl(fd_, F_GETFL);
  DirectAlignment found = ask_kernel(fd_);
  if (found.known && found.bytes == 0) return;
  if (fcntl(fd_, F_SETFL, flags | O_DIRECT) != 0) return;
  if (!found.known) found = probe(fd_);
  if (!is_power_of_two(found.bytes)) {
    (void)fcntl(fd_, F_SETFL, flags);
    return;
  }
  direct_ = true;
  alignment_ = std::max(512U, found.bytes);
}

Status DeviceFile::allocate(uint64_t bytes) {
  if (bytes <= allocated_) return {};
  int rc = 0;
  do {
    rc = fallocate(fd_, 0, 0, static_cast<off_t>(bytes));
  } while (rc != 0 && errno == EINTR);
  if (rc != 0 && errno == EOPNOTSUPP) {
    struct statvfs room {};
    const uint64_t more = bytes - allocated_;
    if (fstatvfs(fd_, &room) == 0 && room.f_bavail * room.f_frsize < more) {
      errno = ENOSPC;
    } else {
      rc = ftruncate(fd_, static_cast<off_t>(bytes));
    }
  }
  if (rc != 0) {
    const Error error = errno_error(path_, "reserving space");
    // A part may have been had: give it back, so that what else uses the disk is not worse off.
    (void)!ftruncate(fd_, static_cast<off_t>(allocated_));
    return make_error(error.code, "{} ({} bytes wanted)", error.message, bytes);
  }
  allocated_ = bytes;
  return {};
}

void DeviceFile::discard(uint64_t offset, uint64_t bytes) {
  (void)fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(bytes));
  if (offset < allocated_ && offset + bytes >= allocated_) allocated_ = offset;
}

}  // namespace lcrun::storage
