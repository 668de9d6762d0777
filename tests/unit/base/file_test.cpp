#include "src/base/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace lcrun;

namespace {
struct TempDir {
  TempDir() {
    char name[] = "/tmp/lcrun_file_test_XXXXXX";
    path = mkdtemp(name);
  }
  ~TempDir() { (void)!system(("rm -rf " + path).c_str()); }
  std::string path;
};
std::span<const std::byte> as_bytes_of(const std::string& s) { return std::as_bytes(std::span(s)); }
}  // namespace

TEST_CASE("an atomic write replaces the whole file and leaves nothing behind", "[base]") {
  const TempDir dir;
  FileSystem& fs = posix_file_system();
  const std::string path = dir.path + "/f";
  REQUIRE(write_file_atomically(fs, path, as_bytes_of("first contents")).has_value());
  REQUIRE(write_file_atomically(fs, path, as_bytes_of("second")).has_value());
  CHECK(read_text_file(fs, path, 100).value() == "second");
  CHECK(rmdir(dir.path.c_str()) != 0);
  REQUIRE(fs.remove(path).has_value());
  CHECK(rmdir(dir.path.c_str()) == 0);
}

TEST_CASE("reads past the end, directories, pipes and missing files are errors with the path", "[base]") {
  const TempDir dir;
  FileSystem& fs = posix_file_system();
  const std::string path = dir.path + "/f";
  REQUIRE(write_file_atomically(fs, path, as_bytes_of("abc")).has_value());
  auto file = fs.open(path, OpenMode::kRead);
  REQUIRE(file.has_value());
  std::byte buffer[8];
  const Status read = (*file)->read_at(1, buffer);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().message.find(path) != std::string::npos);
  CHECK(fs.open(dir.path, OpenMode::kRead).error().message.find("a directory") != std::string::npos);
  CHECK(fs.open(dir.path + "/none", OpenMode::kRead).error().code == Code::kNotFound);
  REQUIRE(mkfifo((dir.path + "/pipe").c_str(), 0600) == 0);
  CHECK_FALSE(fs.open(dir.path + "/pipe", OpenMode::kRead).has_value());
}

TEST_CASE("what is private is readable by its owner only, what is shared by whom the umask says", "[base]") {
  const TempDir dir;
  FileSystem& fs = posix_file_system();
  const mode_t old = umask(022);
  struct stat info {};
  REQUIRE(fs.open(dir.path + "/private", OpenMode::kReplace).has_value());
  REQUIRE(stat((dir.path + "/private").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  REQUIRE(fs.open(dir.path + "/shared", OpenMode::kReplaceShared).has_value());
  REQUIRE(stat((dir.path + "/shared").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0644);
  umask(old);
}

TEST_CASE("direct reads give the same bytes as plain ones at any offset", "[base]") {
  const TempDir dir;
  FileSystem& fs = posix_file_system();
  std::string data(10000, ' ');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 % 251);
  const std::string path = dir.path + "/f";
  REQUIRE(write_file_atomically(fs, path, as_bytes_of(data)).has_value());
  auto file = fs.open(path, OpenMode::kReadDirect);
  REQUIRE(file.has_value());
  for (const size_t offset : {0UL, 1UL, 4095UL, 4096UL, 9000UL}) {
    std::vector<std::byte> out(std::min<size_t>(5000, data.size() - offset));
    REQUIRE((*file)->read_at(offset, out).has_value());
    CHECK(std::memcmp(out.data(), data.data() + offset, out.size()) == 0);
  }
  std::vector<std::byte> over(2);
  CHECK_FALSE((*file)->read_at(data.size() - 1, over).has_value());
}

TEST_CASE("a mapping mirrors the file, empty files included", "[base]") {
  const TempDir dir;
  FileSystem& fs = posix_file_system();
  for (const std::string text : {"", "hello"}) {
    const std::string path = dir.path + "/m";
    REQUIRE(write_file_atomically(fs, path, as_bytes_of(text)).has_value());
    auto file = fs.open(path, OpenMode::kRead);
    REQUIRE(file.has_value());
    auto mapping = (*file)->map();
    REQUIRE(mapping.has_value());
    const auto bytes = (*mapping)->bytes();
    CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == text);
  }
}
