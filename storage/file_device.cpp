#include "storage/file_device.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "src/base/log.hpp"
#include "storage/device_file.hpp"
#include "storage/io_queue.hpp"

namespace lcrun::storage {
namespace {

Result<std::unique_ptr<BlockDevice>> make_device(DeviceFile file, const DeviceOptions& options) {
  const uint32_t depth = std::clamp(options.depth, 1U, 1024U);
  if (options.io != IoChoice::kThreads) {
    auto ring = make_uring_device(file, depth);
    if (ring.has_value() || options.io == IoChoice::kUring) return ring;
    log(LogLevel::kWarn, "{}; using threads for the disk instead", ring.error().message);
  }
  return make_threads_device(std::move(file), depth);
}

}  // namespace

Result<uint64_t> free_space(const std::string& directory) {
  struct statvfs found {};
  if (statvfs(directory.c_str(), &found) != 0) return io_error(directory, errno);
  return uint64_t{found.f_bavail} * found.f_frsize;
}

Result<std::unique_ptr<BlockDevice>> open_scratch(const std::string& directory, const DeviceOptions& options) {
  LCRUN_ASSIGN(auto file, DeviceFile::scratch(directory, options.direct));
  return make_device(std::move(file), options);
}

Result<std::unique_ptr<BlockDevice>> open_for_reading(const std::string& path, const DeviceOptions& options) {
  LCRUN_ASSIGN(auto file, DeviceFile::for_reading(path, options.direct));
  return make_device(std::move(file), options);
}

}  // namespace lcrun::storage
