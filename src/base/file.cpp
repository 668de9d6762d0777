#include "src/base/file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "src/base/format.hpp"
#include "src/base/mapping_guard.hpp"

namespace lcrun {
namespace {

constexpr size_t kDirectAlignment = 4096;
constexpr size_t kMaxParts = 128;  // of one scattered read

Error errno_error(const std::string& path, const char* operation) {
  const int number = errno;
  const Code code = number == ENOSPC || number == EDQUOT ? Code::kNoSpace
                    : number == ENOENT                   ? Code::kNotFound
                    : number == ENOMEM                   ? Code::kNoMemory
                                                         : Code::kIo;
  return make_error(code, "{}: {} failed: {}", path, operation, std::strerror(number));
}

class PosixMapping final : public Mapping {
 public:
  PosixMapping(void* data, size_t size, std::string path)
      : data_(data), size_(size), path_(std::move(path)), entry_({static_cast<const std::byte*>(data), size}) {}
  PosixMapping(const PosixMapping&) = delete;
  PosixMapping& operator=(const PosixMapping&) = delete;
  ~PosixMapping() override {
    if (data_ != nullptr) munmap(data_, size_);
  }
  std::span<const std::byte> bytes() const override { return {static_cast<const std::byte*>(data_), size_}; }
  Status lock_in_memory() override {
    if (size_ != 0 && mlock(data_, size_) != 0) return errno_error(path_, "mlock");
    return {};
  }
  void drop_pages(uint64_t offset, uint64_t size) override {
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t first = (offset + page - 1) / page * page;
    const uint64_t last = std::min<uint64_t>(offset + size, size_) / page * page;
    if (first < last) madvise(static_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
  }
  Status status() const override {
    if (!entry_.is_lost()) return {};
    return make_error(Code::kIo, "{}: the file was cut short, or its disk failed, while it was in use", path_);
  }

 private:
  void* data_;
  size_t size_;
  std::string path_;
  MappingEntry entry_;
};

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path, bool direct) : fd_(fd), path_(std::move(path)), direct_(direct) {}
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override { ::close(fd_); }

  const std::string& path() const override { return path_; }

  Result<uint64_t> size() const override {
    struct stat info {};
    if (fstat(fd_, &info) != 0) return errno_error(path_, "fstat");
    return static_cast<uint64_t>(info.st_size);
  }

  Status read_at(uint64_t offset, std::span<std::byte> out) override {
    return direct_ ? read_direct(offset, out) : read_plain(offset, out);
  }

  Status read_scattered(uint64_t offset, std::span<const std::span<std::byte>> parts) override {
    if (direct_ || parts.size() > kMaxParts) return File::read_scattered(offset, parts);
    struct iovec pieces[kMaxParts];
    size_t wanted = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      pieces[i] = {parts[i].data(), parts[i].size()};
      wanted += parts[i].size();
    }
    const ssize_t n = preadv(fd_, pieces, static_cast<int>(parts.size()), static_cast<off_t>(offset));
    if (n >= 0 && static_cast<size_t>(n) == wanted) return {};
    // Short, interrupted or refused: part by part, which finds out why.
    return File::read_scattered(offset, parts);
  }

  void will_need(uint64_t offset, uint64_t size) override {
    static_cast<void>(posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(size), POSIX_FADV_WILLNEED));
  }

  bool try_lock(bool exclusive) override {
    return flock(fd_, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 || errno != EWOULDBLOCK;
  }

  Status write_at(uint64_t offset, std::span<const std::byte> data) override {
    while (!data.empty()) {
      const ssize_t n = pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error(path_, "write");
      offset += static_cast<uint64_t>(n);
      data = data.subspan(static_cast<size_t>(n));
    }
    return {};
  }

  void cut(uint64_t size) override { static_cast<void>(!ftruncate(fd_, static_cast<off_t>(size))); }

  Status sync() override {
    if (fdatasync(fd_) != 0) return errno_error(path_, "fdatasync");
    return {};
  }

  Result<std::unique_ptr<Mapping>> map() override {
    LCRUN_ASSIGN(const uint64_t bytes, size());
    if (bytes == 0) return std::unique_ptr<Mapping>(std::make_unique<PosixMapping>(nullptr, 0, path_));
    void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (data == MAP_FAILED) return errno_error(path_, "mmap");
    return std::unique_ptr<Mapping>(std::make_unique<PosixMapping>(data, bytes, path_));
  }

 private:
  Status read_plain(uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
      const ssize_t n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error(path_, "read");
      if (n == 0)
        return make_error(Code::kIo, "{}: offset {}: end of file, {} bytes wanted", path_, offset, out.size());
      offset += static_cast<uint64_t>(n);
      out = out.subspan(static_cast<size_t>(n));
    }
    return {};
  }

  // O_DIRECT wants aligned offsets, lengths and memory: read aligned pieces into a bounce buffer.
  Status read_direct(uint64_t offset, std::span<std::byte> out) {
    constexpr size_t kChunk = size_t{1} << 20;
    std::unique_ptr<std::byte, decltype(&std::free)> bounce(
        static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kChunk)), &std::free);
    if (!bounce) return make_error(Code::kNoMemory, "{}: no memory for a read buffer", path_);
    while (!out.empty()) {
      const uint64_t start = offset / kDirectAlignment * kDirectAlignment;
      const ssize_t n = pread(fd_, bounce.get(), kChunk, static_cast<off_t>(start));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error(path_, "direct read");
      const uint64_t skip = offset - start;
      if (static_cast<uint64_t>(n) <= skip) {
        return make_error(Code::kIo, "{}: offset {}: end of file, {} bytes wanted", path_, offset, out.size());
      }
      const size_t take = std::min<size_t>(static_cast<size_t>(n) - skip, out.size());
      std::memcpy(out.data(), bounce.get() + skip, take);
      offset += take;
      out = out.subspan(take);
    }
    return {};
  }

  int fd_;
  std::string path_;
  bool direct_;
};

std::string directory_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    // O_NONBLOCK: opening a FIFO for reading must not hang; it has no effect on regular files.
    int flags = O_CLOEXEC | O_NONBLOCK;
    if (mode == OpenMode::kRead || mode == OpenMode::kReadDirect) flags |= O_RDONLY;
    if (mode == OpenMode::kModify) flags |= O_RDWR;
    if (mode == OpenMode::kCreateNew) flags |= O_RDWR | O_CREAT | O_EXCL;
    if (mode == OpenMode::kReplace || mode == OpenMode::kReplaceShared) flags |= O_RDWR | O_CREAT | O_TRUNC;
    const mode_t access = mode == OpenMode::kReplaceShared ? 0666 : 0600;
    bool direct = mode == OpenMode::kReadDirect;
    int fd = ::open(path.c_str(), flags | (direct ? O_DIRECT : 0), access);
    if (fd < 0 && direct && errno == EINVAL) {
      direct = false;
      fd = ::open(path.c_str(), flags, access);
    }
    if (fd < 0) return errno_error(path, "open");
    struct stat info {};
    if (fstat(fd, &info) != 0) {
      const Error error = errno_error(path, "fstat");
      ::close(fd);
      return error;
    }
    const bool must_be_regular = mode == OpenMode::kRead || mode == OpenMode::kReadDirect || mode == OpenMode::kModify;
    if (!S_ISREG(info.st_mode) && must_be_regular) {
      ::close(fd);
      return make_error(Code::kIo, "{}: found {}, wanted a regular file", path,
                        S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
    }
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path, direct));
  }

  Status rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return errno_error(from, "rename");
    return {};
  }
  Status remove(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return errno_error(path, "remove");
    return {};
  }
  Status sync_directory_of(const std::string& path) override {
    const std::string dir = directory_of(path);
    const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno_error(dir, "open");
    const int rc = fsync(fd);
    const Error error = errno_error(dir, "fsync");
    ::close(fd);
    if (rc != 0) return error;
    return {};
  }
  bool exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }
  std::vector<std::string> longer_names(const std::string& path) override {
    const std::string name = path.substr(path.find_last_of('/') + 1);
    std::vector<std::string> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(directory_of(path).c_str()), &closedir);
    if (directory == nullptr) return found;
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view other = entry->d_name;
      if (other.size() <= name.size() || other.substr(0, name.size()) != name) continue;
      found.push_back(path + std::string(other.substr(name.size())));
    }
    return found;
  }
};

Result<std::string> read_stream(std::FILE* stream, const std::string& name, uint64_t limit_bytes) {
  std::string text;
  char buffer[65536];
  for (;;) {
    const size_t n = std::fread(buffer, 1, sizeof(buffer), stream);
    text.append(buffer, n);
    if (text.size() > limit_bytes) {
      return make_error(Code::kInvalidArgument, "{}: more than {} bytes", name, limit_bytes);
    }
    if (n < sizeof(buffer)) break;
  }
  if (std::ferror(stream) != 0) return make_error(Code::kIo, "{}: read failed", name);
  return text;
}

}  // namespace

Status File::read_scattered(uint64_t offset, std::span<const std::span<std::byte>> parts) {
  for (const auto part : parts) {
    LCRUN_TRY(read_at(offset, part));
    offset += part.size();
  }
  return {};
}

FileSystem& posix_file_system() {
  static PosixFileSystem fs;
  return fs;
}

Result<std::string> read_text_file(FileSystem& fs, const std::string& path, uint64_t limit_bytes) {
  if (path == "-") return read_stream(stdin, "standard input", limit_bytes);
  auto opened = fs.open(path, OpenMode::kRead);
  if (!opened.has_value()) {
    // Pipes and /dev/fd/N are fine as text, though not as models.
    if (opened.error().code == Code::kIo && opened.error().message.find("pipe") != std::string::npos) {
      std::FILE* stream = std::fopen(path.c_str(), "rb");
      if (stream != nullptr) {
        auto text = read_stream(stream, path, limit_bytes);
        std::fclose(stream);
        return text;
      }
    }
    return std::move(opened).error();
  }
  LCRUN_ASSIGN(const uint64_t size, (*opened)->size());
  if (size > limit_bytes) {
    return make_error(Code::kInvalidArgument, "{}: found {} bytes, wanted at most {}", path, size, limit_bytes);
  }
  std::string text(size, '\0');
  LCRUN_TRY((*opened)->read_at(0, {reinterpret_cast<std::byte*>(text.data()), text.size()}));
  return text;
}

Status write_file_atomically(FileSystem& fs, const std::string& path, std::span<const std::byte> data) {
  // Not by format(): a stream that runs out of memory gives part of a name, and says nothing.
  const std::string temporary = path + ".tmp." + std::to_string(getpid());
  const Status written = [&]() -> Status {
    LCRUN_ASSIGN(auto file, fs.open(temporary, OpenMode::kReplace));
    LCRUN_TRY(file->write_at(0, data));
    return file->sync();
  }();
  if (!written.has_value()) {
    (void)fs.remove(temporary);
    return written;
  }
  const Status renamed = fs.rename(temporary, path);
  if (!renamed.has_value()) {
    (void)fs.remove(temporary);
    return renamed;
  }
  return fs.sync_directory_of(path);
}

}  // namespace lcrun
