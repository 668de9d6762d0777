// DeviceFile: the open file under a backend, and what is the same for all of them: opening, alignment, space.
//
// Internal to storage (file_device.hpp is the border). Thread rule: const access from any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "src/base/result.hpp"
#include "storage/block_device.hpp"

namespace lcrun::storage {

class DeviceFile {
 public:
  static Result<DeviceFile> scratch(const std::string& directory, bool direct);
  static Result<DeviceFile> for_reading(const std::string& path, bool direct);
  DeviceFile(DeviceFile&& other) noexcept;
  DeviceFile& operator=(DeviceFile&&) = delete;
  ~DeviceFile();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  bool direct() const { return direct_; }
  uint32_t alignment() const { return alignment_; }
  uint32_t block_bytes() const { return std::max(alignment_, kFileBlock); }
  Status allocate(uint64_t bytes);
  void discard(uint64_t offset, uint64_t bytes);

 private:
  DeviceFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  // Settles direct_ and alignment_; the file was opened without O_DIRECT.
  void settle_direct(bool wanted);

  static constexpr uint32_t kFileBlock = 4096;  // of the file systems that matter

  int fd_ = -1;
  std::string path_;
  bool scratch_ = false;
  bool direct_ = false;
  uint32_t alignment_ = 512;
  uint64_t allocated_ = 0;
};

// One per backend. The uring one fails with kUnsupported and the reason when there is no ring to be had.
Result<std::unique_ptr<BlockDevice>> make_uring_device(DeviceFile& file, uint32_t depth);
std::unique_ptr<BlockDevice> make_threads_device(DeviceFile file, uint32_t depth);
uint64_t monotonic_ns();

}  // namespace lcrun::storage
