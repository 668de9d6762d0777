#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "ggufish/model_file.hpp"
#include "src/base/file.hpp"
#include "tests/support/bad_gguf.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::ggufish;
using namespace lcrun::test;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

template <class Opened>
void check_verdict(const Opened& opened, const Verdict& verdict) {
  if (verdict.accept) {
    INFO((opened.has_value() ? std::string() : opened.error().message));
    CHECK(opened.has_value());
    return;
  }
  REQUIRE_FALSE(opened.has_value());
  INFO(opened.error().message);
  CHECK(code_name(opened.error().code) == std::string(code_name(verdict.code)));
  CHECK(opened.error().message.find(verdict.fragment) != std::string::npos);
  CHECK(opened.error().message.size() < 600);
}

void check_files(const std::vector<BadFile>& files) {
  for (const BadFile& file : files) {
    INFO(file.name);
    const auto opened = ModelFile::parse(file.bytes, "dir/bad.gguf");
    check_verdict(opened, file.verdict);
    if (opened.has_value()) continue;
    CHECK(opened.error().message.find("dir/bad.gguf: offset ") == 0);
    CHECK(opened.error().message.find(", wanted ") != std::string::npos);
  }
}

void feed(const Bytes& bytes) { LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()); }

void write_bytes(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

}  // namespace

TEST_CASE("files with a wrong header are refused with offset and field", "[ggufish]") { check_files(header_files()); }
TEST_CASE("files with wrong keys are refused with offset and field", "[ggufish]") { check_files(key_files()); }
TEST_CASE("files with a wrong tensor table are refused with offset and field", "[ggufish]") {
  check_files(tensor_files());
}
TEST_CASE("a file cut anywhere before the end of its data is refused", "[ggufish]") { check_files(truncated_files()); }

TEST_CASE("the corpus is as large as promised and holds right files too", "[ggufish]") {
  size_t refused = 0;
  size_t accepted = 0;
  for (const auto& group : {header_files(), key_files(), tensor_files(), truncated_files()}) {
    for (const BadFile& file : group) ++(file.verdict.accept ? accepted : refused);
  }
  CHECK(refused + split_sets().size() >= 400);
  CHECK(accepted >= 30);
}

TEST_CASE("split sets open by their first part when every part fits, and are refused otherwise", "[ggufish]") {
  for (const BadSet& set : split_sets()) {
    const TempDir dir;
    for (const auto& [name, bytes] : set.files) write_bytes(dir.path() + "/" + name, bytes);
    for (const LoadMode mode : {LoadMode::kMmap, LoadMode::kRead}) {
      INFO(set.name);
      const auto opened = ModelFile::open(dir.path() + "/" + set.opened, mode, posix_file_system());
      check_verdict(opened, set.verdict);
      if (!opened.has_value()) CHECK(opened.error().message.find(dir.path()) != std::string::npos);
    }
  }
}

TEST_CASE("the tensors of a split set know their part and keep their bytes", "[ggufish]") {
  const TempDir dir;
  uint64_t total = 0;
  for (const auto& [name, raw] : good_set(12)) {
    write_bytes(dir.path() + "/" + name, raw.encode());
    total += raw.encode().size();
  }
  const auto opened = ModelFile::open(dir.path() + "/m-00001-of-00012.gguf", LoadMode::kMmap, posix_file_system());
  REQUIRE(opened.has_value());
  REQUIRE((*opened)->tensors().size() == 12);
  CHECK((*opened)->file_bytes() == total);
  CHECK((*opened)->meta().get_string("general.architecture").value() == "llama");
  for (int32_t i = 0; i < 12; ++i) {
    const TensorEntry& entry = (*opened)->tensors()[static_cast<size_t>(i)];
    CHECK(entry.part == i);
    CHECK(entry.view.cols() == i + 1);
    CHECK(entry.view.data[1] == std::byte{32});
    (*opened)->drop_pages(entry.view);
    CHECK(entry.view.data[1] == std::byte{32});
  }
}

TEST_CASE("a file with any one byte changed never crashes the reader or what is asked of it", "[ggufish]") {
  const Bytes good = good_file().encode();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const unsigned change : {0x01U, 0x02U, 0x08U, 0x80U, 0xFFU}) {
      Bytes bytes = good;
      bytes[at] ^= static_cast<std::byte>(change);
      feed(bytes);
    }
    Bytes zeroed = good;
    zeroed[at] = std::byte{0};
    feed(zeroed);
  }
}

TEST_CASE("files with several bytes changed, removed or repeated never crash the reader", "[ggufish]") {
  const Bytes good = good_file().encode();
  std::mt19937 random(20260101);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes = good;
    for (size_t i = below(4); i < 4; ++i) bytes[below(bytes.size())] = static_cast<std::byte>(random());
    const auto from = bytes.begin() + static_cast<long>(below(bytes.size()));
    if (round % 3 == 1) bytes.erase(from, from + static_cast<long>(below(static_cast<size_t>(bytes.end() - from))));
    if (round % 3 == 2) bytes.insert(from, good.begin(), good.begin() + static_cast<long>(below(40)));
    feed(bytes);
  }
}

TEST_CASE("the fuzz corpus of the reader replays", "[ggufish]") {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/ggufish")) {
    std::ifstream stream(entry.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    ++count;
  }
  CHECK(count >= 8);
}
