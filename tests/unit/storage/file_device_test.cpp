#include "storage/file_device.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <vector>

#include "src/base/log.hpp"
#include "src/base/workspace.hpp"
#include "storage/io_queue.hpp"
#include "tests/support/random.hpp"
#include "tests/support/small_disk.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint32_t kExtent = 16384;
constexpr uint64_t kExtents = 40;

// Runs every extent through the queue once; false if any request failed.
bool transfer(IoQueue& queue, IoOp op, std::byte* memory) {
  uint64_t next = 0, done = 0;
  bool good = true;
  while (done < kExtents) {
    while (next < kExtents && queue.has_room()) {
      const uint64_t extent = next * 7 % kExtents;
      queue.start({op, extent * kExtent, memory + extent * kExtent, kExtent, next++});
    }
    IoOutcome outcomes[5];
    const size_t n = queue.poll(outcomes, true);
    for (size_t i = 0; i < n; ++i) good = good && outcomes[i].error == 0;
    done += n;
  }
  return good;
}

// Writes noise and reads it back; 0 if all bytes came back, else where it went wrong.
int round_trip(BlockDevice& device) {
  if (!device.allocate(kExtent * kExtents).has_value()) return 1;
  auto memory = AlignedBuffer::allocate(2 * kExtent * kExtents, 4096);
  if (!memory) return 2;
  std::byte* written = memory->data();
  std::byte* read = written + kExtent * kExtents;
  test::Random random(5);
  for (size_t i = 0; i < kExtent * kExtents; ++i) written[i] = static_cast<std::byte>(random.next() >> 56);
  device.use_memory({written, kExtent * kExtents});  // one half registered, one half not
  IoQueue queue(device);
  if (!transfer(queue, IoOp::kWrite, written)) return 3;
  queue.start({IoOp::kSync, 0, nullptr, 0, 99});
  IoOutcome outcome;
  if (queue.poll({&outcome, 1}, true) != 1 || outcome.error != 0) return 4;
  if (!transfer(queue, IoOp::kRead, read)) return 5;
  if (std::memcmp(written, read, kExtent * kExtents) != 0) return 6;
  device.discard(0, kExtent * kExtents);
  return 0;
}

// Is there an io_uring to be had? The tests of it are skipped with a reason where not.
bool has_uring(const std::string& test) {
  const test::TempDir dir;
  const auto device = open_scratch(dir.path(), {.io = IoChoice::kUring});
  if (!device) std::cout << "SKIPPED: " << test << ": " << device.error().message << "\n";
  return device.has_value();
}

// From here on this process gets `error` for every io_uring_setup, as containers do it.
bool forbid_uring(int error) {
  constexpr uint32_t kReturn = SECCOMP_RET_ERRNO;
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 425, 0, 1),  // io_uring_setup, on every architecture
                          BPF_STMT(BPF_RET | BPF_K, kReturn | static_cast<uint32_t>(error)),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// In a child process: what happens where io_uring is forbidden. Exit status 0: fell back with one line, same bytes.
int forbidden_child(int error, const std::string& directory) {
  if (!forbid_uring(error)) return 77;
  int lines = 0;
  bool names_it = false;
  set_log_sink([&](LogLevel, std::string_view text) {
    ++lines;
    names_it = text.find("io_uring") != std::string_view::npos;
  });
  if (open_scratch(directory, {.io = IoChoice::kUring}).has_value()) return 10;  // asked for by name: an error
  if (lines != 0) return 11;
  auto device = open_scratch(directory, {});
  if (!device || device.value()->name() != "threads") return 12;
  if (lines != 1 || !names_it) return 13;
  return round_trip(*device.value());
}

}  // namespace

TEST_CASE("both backends give every byte back, past the page cache and through it", "[storage]") {
  const test::TempDir dir;
  for (const IoChoice io : {IoChoice::kThreads, IoChoice::kUring}) {
    if (io == IoChoice::kUring && !has_uring("both backends give every byte back, past the page cache and through it"))
      continue;
    for (const bool direct : {false, true}) {
      for (const uint32_t depth : {1U, 4U, 32U}) {
        auto device = open_scratch(dir.path(), {.io = io, .depth = depth, .direct = direct});
        REQUIRE(device.has_value());
        INFO(device.value()->name() << " direct " << direct << " depth " << depth);
        CHECK((direct || !device.value()->direct()));
        CHECK(round_trip(*device.value()) == 0);
      }
    }
  }
}

TEST_CASE("a scratch file has no name and belongs to its owner alone", "[storage]") {
  const test::TempDir dir;
  const auto device = open_scratch(dir.path(), {.io = IoChoice::kThreads});
  REQUIRE(device.has_value());
  CHECK(dir.count_files() == 0);
  size_t found = 0;
  for (int fd = 3; fd < 64; ++fd) {
    std::error_code none;
    const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none).string();
    if (none || target.rfind(dir.path(), 0) != 0) continue;
    ++found;
    struct stat info {};
    REQUIRE(fstat(fd, &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK(found == 1);
}

TEST_CASE("a missing directory, a directory as a file and a missing file are errors with the path", "[storage]") {
  const test::TempDir dir;
  const auto missing = open_scratch(dir.path() + "/none", {});
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == Code::kNotFound);
  CHECK(missing.error().message.find(dir.path() + "/none") != std::string::npos);
  CHECK_FALSE(open_for_reading(dir.path(), {}).has_value());
  CHECK_FALSE(open_for_reading(dir.path() + "/f", {}).has_value());
}

TEST_CASE("reading past the end of a file is an error, writing to one opened for reading too", "[storage]") {
  const test::TempDir dir;
  std::ofstream(dir.path() + "/f") << std::string(kExtent, 'x');
  auto memory = AlignedBuffer::allocate(kExtent, 4096);
  REQUIRE(memory.has_value());
  for (const IoChoice io : {IoChoice::kThreads, IoChoice::kAuto}) {
    auto device = open_for_reading(dir.path() + "/f", {.io = io});
    REQUIRE(device.has_value());
    IoQueue queue(*device.value());
    IoOutcome outcome;
    queue.start({IoOp::kRead, 0, memory->data(), kExtent, 1});
    REQUIRE(queue.poll({&outcome, 1}, true) == 1);
    CHECK(outcome.error == 0);
    CHECK(memory->data()[kExtent - 1] == std::byte{'x'});
    queue.start({IoOp::kRead, kExtent, memory->data(), kExtent, 1});
    REQUIRE(queue.poll({&outcome, 1}, true) == 1);
    CHECK(outcome.error == ENODATA);
    queue.start({IoOp::kWrite, 0, memory->data(), kExtent, 1});
    REQUIRE(queue.poll({&outcome, 1}, true) == 1);
    CHECK(outcome.error == EBADF);
  }
}

TEST_CASE("where io_uring is forbidden or missing, threads do the same work after one line", "[storage]") {
  const test::TempDir dir;
  for (const int error : {EPERM, ENOSYS}) {
    INFO(std::strerror(error));
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(forbidden_child(error, dir.path()));
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
      std::cout << "SKIPPED: where io_uring is forbidden or missing, threads do the same work after one line: no "
                   "seccomp filter may be set here\n";
      return;
    }
    CHECK(WEXITSTATUS(status) == 0);
  }
}

TEST_CASE("space that a disk has not got is refused before anything is written", "[storage]") {
  const test::SmallDisk disk("space that a disk has not got is refused before anything is written", "1m");
  if (!disk.mounted()) return;
  for (const IoChoice io : {IoChoice::kThreads, IoChoice::kAuto}) {
    auto device = open_scratch(disk.path(), {.io = io});
    CHECK(device.has_value());
    if (!device) continue;
    const Status refused = device.value()->allocate(uint64_t{4} << 20);
    CHECK_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::kNoSpace);
    CHECK(refused.error().message.find("4194304") != std::string::npos);
    CHECK(device.value()->allocate(uint64_t{512} << 10).has_value());  // nothing of the refused one is held
    CHECK(round_trip(*device.value()) == 0);
  }
}
