// The one door to the world: every byte read from or written to a file goes through FileSystem.
//
// Tests put a FileSystem of their own in front (fail the k-th operation, return short counts). The POSIX one turns
// errno into messages that name the path and the operation. Thread rule: FileSystem is stateless; one thread per
// File unless its calls say otherwise (read_at and write_at are safe from several threads).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun {

// Read-only memory that mirrors a file. A file that shrinks while mapped turns reads into SIGBUS, or, where the process
// has asked for that, into zeros and an error in status() (src/base/mapping_guard.hpp).
class Mapping {
 public:
  virtual ~Mapping() = default;
  virtual std::span<const std::byte> bytes() const = 0;
  virtual Status lock_in_memory() = 0;                          // mlock
  virtual void drop_pages(uint64_t offset, uint64_t size) = 0;  // hint: not needed soon
  // kIo: a part of it has turned out not to be there, and reads as zeros. To be asked before what was read is used.
  virtual Status status() const { return {}; }
};

enum class OpenMode : uint8_t {
  kRead,           // must exist and be a regular file
  kCreateNew,      // must not exist; mode 0600
  kReplace,        // created or truncated; mode 0600: prompts and their caches are private
  kReplaceShared,  // the same with the modes that the umask leaves (models)
  kReadDirect,     // kRead that bypasses the page cache where the file system allows, else kRead
  kModify,         // must exist and be a regular file; read and written in place
};

class File {
 public:
  virtual ~File() = default;
  virtual const std::string& path() const = 0;
  virtual Result<uint64_t> size() const = 0;
  // Fills all of `out`; the end of the file inside it is an error (kIo) that says so.
  virtual Status read_at(uint64_t offset, std::span<std::byte> out) = 0;
  // The same into several places, one after another: one request where the system can do that.
  virtual Status read_scattered(uint64_t offset, std::span<const std::span<std::byte>> parts);
  // A hint: the range will be read soon.
  virtual void will_need(uint64_t /*offset*/, uint64_t /*size*/) {}
  virtual Status write_at(uint64_t offset, std::span<const std::byte> data) = 0;
  virtual Status sync() = 0;  // fdatasync
  // Gives back what lies behind `size`, after a write that failed; nothing happens where that cannot be done.
  virtual void cut(uint64_t /*size*/) {}
  // Locks the file against other processes that ask too, until it is closed; false: somebody else holds it. File
  // systems without locks always say true.
  virtual bool try_lock(bool /*exclusive*/) { return true; }
  virtual Result<std::unique_ptr<Mapping>> map() = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove(const std::string& path) = 0;
  virtual Status sync_directory_of(const std::string& path) = 0;
  virtual bool exists(const std::string& path) = 0;
  // Paths that begin with `path` and have more behind it, in its directory; none where that cannot be said.
  virtual std::vector<std::string> longer_names(const std::string& /*path*/) { return {}; }
};

// The operating system's files.
FileSystem& posix_file_system();

// Whole file as bytes; refuses more than `limit_bytes` (kInvalidArgument). "-" is standard input.
Result<std::string> read_text_file(FileSystem& fs, const std::string& path, uint64_t limit_bytes);

// Writes a temporary file beside `path`, syncs it, renames it over `path` and syncs the directory: after a crash
// the old contents or the new ones are there, never a mixture.
Status write_file_atomically(FileSystem& fs, const std::string& path, std::span<const std::byte> data);

}  // namespace lcrun
