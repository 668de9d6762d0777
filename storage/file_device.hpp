// Block devices over real files: io_uring where the system lets us, else a pool of threads, with the same results.
//
// The choice is made when a device is opened: containers forbid io_uring (EPERM), old kernels lack it (ENOSYS), and
// locked memory may be short (ENOMEM). With kAuto any of these means the thread pool and one line on stderr.
// O_DIRECT is used where the file system says that it works (STATX_DIOALIGN, else a probe), else the page cache.
#pragma once

#include <memory>
#include <string>

#include "storage/block_device.hpp"

namespace lcrun::storage {

enum class IoChoice : uint8_t { kAuto, kUring, kThreads };

struct DeviceOptions {
  IoChoice io = IoChoice::kAuto;
  uint32_t depth = 128;  // most requests in flight; clamped to [1, 1024]
  bool direct = true;    // bypass the page cache where possible
};

// Bytes that files in the directory may still take.
Result<uint64_t> free_space(const std::string& directory);
// A file without a name in `directory`, mode 0600: gone with the process, whatever ends it. A directory that cannot
// be written to is kIo or kNotFound.
Result<std::unique_ptr<BlockDevice>> open_scratch(const std::string& directory, const DeviceOptions& options);
// An existing file; writes fail with EBADF.
Result<std::unique_ptr<BlockDevice>> open_for_reading(const std::string& path, const DeviceOptions& options);

}  // namespace lcrun::storage
