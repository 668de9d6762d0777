#include "src/base/mapping_guard.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <thread>
#include <vector>

#include "src/base/file.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;

namespace {

constexpr size_t kSize = 1 << 20;

std::unique_ptr<Mapping> mapped(const std::string& path) {
  const std::vector<std::byte> bytes(kSize, std::byte{7});
  REQUIRE(write_file_atomically(posix_file_system(), path, bytes).has_value());
  auto file = posix_file_system().open(path, OpenMode::kRead).value();
  return file->map().value();
}

size_t count_of(std::span<const std::byte> bytes, int value) {
  return static_cast<size_t>(std::count(bytes.begin(), bytes.end(), std::byte(static_cast<unsigned char>(value))));
}

}  // namespace

TEST_CASE("a mapped file that is cut reads as zeros from there on, and says so", "[base]") {
  REQUIRE(install_mapping_guard().has_value());
  REQUIRE(install_mapping_guard().has_value());
  const test::TempDir dir;
  for (const size_t kept : {size_t{0}, size_t{4096}, kSize / 2, kSize - 4096}) {
    const auto mapping = mapped(dir.path() + "/f");
    const auto other = mapped(dir.path() + "/other");
    CHECK(mapping->status().has_value());
    REQUIRE(truncate((dir.path() + "/f").c_str(), static_cast<off_t>(kept)) == 0);
    CHECK(count_of(mapping->bytes(), 7) == kept);
    CHECK(count_of(mapping->bytes(), 0) == kSize - kept);
    const Status found = mapping->status();
    REQUIRE_FALSE(found.has_value());
    CHECK(found.error().code == Code::kIo);
    CHECK(found.error().message.find("/f: ") != std::string::npos);
    CHECK(count_of(other->bytes(), 7) == kSize);
    CHECK(other->status().has_value());
  }
}

TEST_CASE("threads that read a file while it is cut all go on", "[base]") {
  REQUIRE(install_mapping_guard().has_value());
  const test::TempDir dir;
  for (int round = 0; round < 20; ++round) {
    const auto mapping = mapped(dir.path() + "/f");
    std::vector<std::thread> readers;
    std::vector<size_t> counts(4);
    for (size_t i = 0; i < counts.size(); ++i) {
      readers.emplace_back([&, i] { counts[i] = count_of(mapping->bytes(), 7) + count_of(mapping->bytes(), 0); });
    }
    REQUIRE(truncate((dir.path() + "/f").c_str(), 4096) == 0);
    for (auto& reader : readers) reader.join();
    // A byte may have turned between the two counts.
    for (const size_t count : counts) CHECK(count <= 2 * kSize);
    CHECK(count_of(mapping->bytes(), 0) == kSize - 4096);
    CHECK_FALSE(mapping->status().has_value());
  }
}

TEST_CASE("more mappings than the table holds can be had, and their places are used again", "[base]") {
  const std::vector<std::byte> memory(64);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::unique_ptr<MappingEntry>> entries;
    for (int i = 0; i < 1500; ++i) entries.push_back(std::make_unique<MappingEntry>(memory));
    for (const auto& entry : entries) CHECK_FALSE(entry->is_lost());
  }
}

TEST_CASE("a fault outside mapped files ends the process as it would have", "[base]") {
  REQUIRE(install_mapping_guard().has_value());
  const pid_t child = fork();
  if (child == 0) {
    std::raise(SIGBUS);  // returns: the next one is not ours either
    std::raise(SIGBUS);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  // By the signal, or by the handler of a sanitizer that was there before.
  if (WIFSIGNALED(status)) CHECK(WTERMSIG(status) == SIGBUS);
  if (WIFEXITED(status)) CHECK(WEXITSTATUS(status) != 0);
}
