#include "src/base/byte_stream.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/base/format.hpp"

namespace lcrun {
namespace {

class PosixStream final : public ByteStream {
 public:
  PosixStream(int fd, bool is_ours, std::string name, const std::atomic<bool>* cancel)
      : fd_(fd), is_ours_(is_ours), name_(std::move(name)), cancel_(cancel) {}
  ~PosixStream() override {
    if (is_ours_) ::close(fd_);
  }
  PosixStream(const PosixStream&) = delete;
  PosixStream& operator=(const PosixStream&) = delete;

  Result<size_t> read(std::span<char> out) override {
    while (true) {
      if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
        return make_error(Code::kCancelled, "reading {} was stopped", name_);
      }
      const ssize_t n = ::read(fd_, out.data(), out.size());
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR) return make_error(Code::kIo, "{}: read failed: {}", name_, std::strerror(errno));
    }
  }

 private:
  int fd_;
  bool is_ours_;
  std::string name_;
  const std::atomic<bool>* cancel_;
};

}  // namespace

Result<std::unique_ptr<ByteStream>> open_byte_stream(const std::string& path, const std::atomic<bool>* cancel) {
  if (path == "-") {
    return std::unique_ptr<ByteStream>(std::make_unique<PosixStream>(STDIN_FILENO, false, "standard input", cancel));
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return make_error(Code::kIo, "{}: open failed: {}", path, std::strerror(errno));
  auto stream = std::make_unique<PosixStream>(fd, true, path, cancel);
  struct stat about {};
  if (::fstat(fd, &about) == 0 && S_ISDIR(about.st_mode)) {
    return make_error(Code::kIo, "{}: found a directory, wanted a text", path);
  }
  return std::unique_ptr<ByteStream>(std::move(stream));
}

}  // namespace lcrun
