#include "ggufish/model_file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ggufish/writer.hpp"
#include "src/base/format.hpp"
#include "tests/support/bad_gguf.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::ggufish;
using namespace lcrun::test;

namespace {

constexpr LoadMode kModes[] = {LoadMode::kMmap, LoadMode::kMmapLocked, LoadMode::kRead, LoadMode::kDirect};

void write_bytes(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<long>(bytes.size()));
}

// Counts operations and fails the one whose turn it is.
struct FaultPlan {
  int fail_at = -1;
  Code code = Code::kIo;
  int done = 0;
  std::vector<std::pair<uint64_t, uint64_t>> dropped = {};  // offset and size of each hint
  Status step(const char* what) {
    if (done++ != fail_at) return {};
    return make_error(code, "injected fault in {}", what);
  }
};

class FaultMapping final : public Mapping {
 public:
  FaultMapping(std::unique_ptr<Mapping> mapping, FaultPlan& plan) : mapping_(std::move(mapping)), plan_(plan) {}
  std::span<const std::byte> bytes() const override { return mapping_->bytes(); }
  Status lock_in_memory() override {
    LCRUN_TRY(plan_.step("lock"));
    return mapping_->lock_in_memory();
  }
  void drop_pages(uint64_t offset, uint64_t size) override {
    plan_.dropped.emplace_back(offset, size);
    mapping_->drop_pages(offset, size);
  }

 private:
  std::unique_ptr<Mapping> mapping_;
  FaultPlan& plan_;
};

class FaultFile final : public File {
 public:
  FaultFile(std::unique_ptr<File> file, FaultPlan& plan) : file_(std::move(file)), plan_(plan) {}
  const std::string& path() const override { return file_->path(); }
  Result<uint64_t> size() const override {
    LCRUN_TRY(plan_.step("size"));
    return file_->size();
  }
  Status read_at(uint64_t offset, std::span<std::byte> out) override {
    LCRUN_TRY(plan_.step("read"));
    return file_->read_at(offset, out);
  }
  Status write_at(uint64_t offset, std::span<const std::byte> data) override {
    LCRUN_TRY(plan_.step("write"));
    return file_->write_at(offset, data);
  }
  Status sync() override {
    LCRUN_TRY(plan_.step("sync"));
    return file_->sync();
  }
  Result<std::unique_ptr<Mapping>> map() override {
    LCRUN_TRY(plan_.step("map"));
    LCRUN_ASSIGN(auto mapping, file_->map());
    return std::unique_ptr<Mapping>(std::make_unique<FaultMapping>(std::move(mapping), plan_));
  }

 private:
  std::unique_ptr<File> file_;
  FaultPlan& plan_;
};

class FaultFileSystem final : public FileSystem {
 public:
  explicit FaultFileSystem(FaultPlan& plan) : plan_(plan) {}
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    LCRUN_TRY(plan_.step("open"));
    LCRUN_ASSIGN(auto file, posix_file_system().open(path, mode));
    return std::unique_ptr<File>(std::make_unique<FaultFile>(std::move(file), plan_));
  }
  Status rename(const std::string& from, const std::string& to) override {
    LCRUN_TRY(plan_.step("rename"));
    return posix_file_system().rename(from, to);
  }
  Status remove(const std::string& path) override { return posix_file_system().remove(path); }
  Status sync_directory_of(const std::string& path) override {
    LCRUN_TRY(plan_.step("sync of the directory"));
    return posix_file_system().sync_directory_of(path);
  }
  bool exists(const std::string& path) override { return posix_file_system().exists(path); }

 private:
  FaultPlan& plan_;
};

Writer one_tensor(int32_t mark) {
  Writer writer;
  writer.add_i32("mark", mark);
  const std::vector<int64_t> ne{8};
  writer.add_tensor("t", DType::kF32, ne, Bytes(32));
  return writer;
}

int64_t mark_of(const std::string& path) {
  const auto opened = ModelFile::open(path, LoadMode::kRead, posix_file_system());
  return opened.has_value() ? (*opened)->meta().get_int("mark").value() : -1;
}

}  // namespace

TEST_CASE("what is not a model file is a bad model with its path, in every load mode", "[ggufish]") {
  const TempDir dir;
  const std::string base = dir.path() + "/";
  write_bytes(base + "empty", {});
  write_bytes(base + "four", Bytes(4));
  write_bytes(base + "text", Bytes(5000, std::byte{'x'}));
  REQUIRE(mkfifo((base + "pipe").c_str(), 0600) == 0);
  std::filesystem::create_directory(base + "folder");
  std::filesystem::create_symlink(base + "loop", base + "loop");
  std::filesystem::create_symlink(base + "gone", base + "dangling");
  const std::pair<std::string, std::string> cases[] = {{base + "empty", "an empty file"},
                                                       {base + "four", "magic"},
                                                       {base + "text", "not a GGUF model"},
                                                       {base + "pipe", "regular file"},
                                                       {base + "folder", "a directory"},
                                                       {base + "loop", "open failed"},
                                                       {base + "dangling", "open failed"},
                                                       {base + "none", "open failed"},
                                                       {"/dev/zero", "regular file"},
                                                       {base + "four/under a file", "open failed"},
                                                       {"", "open failed"}};
  for (const auto& [path, fragment] : cases) {
    for (const LoadMode mode : kModes) {
      INFO(path);
      const auto opened = ModelFile::open(path, mode, posix_file_system());
      REQUIRE_FALSE(opened.has_value());
      INFO(opened.error().message);
      CHECK(opened.error().code == Code::kBadModel);
      CHECK(opened.error().message.find(path + ": ") == 0);
      CHECK(opened.error().message.find(fragment) != std::string::npos);
    }
  }
}

TEST_CASE("a sparse file of gigabytes opens without its bytes being read", "[ggufish]") {
  const TempDir dir;
  RawFile file;
  const uint64_t size_bytes = uint64_t{4} << 30;
  file.tensors = {{"big", {size_bytes / 4}, 0, size_bytes, {}, {}, {}}};
  file.data_bytes = 0;
  const std::string path = dir.path() + "/sparse.gguf";
  const Bytes head = file.encode();
  write_bytes(path, head);
  CHECK_FALSE(ModelFile::open(path, LoadMode::kMmap, posix_file_system()).has_value());
  REQUIRE(truncate(path.c_str(), static_cast<off_t>(head.size() + size_bytes)) == 0);
  const auto opened = ModelFile::open(path, LoadMode::kMmap, posix_file_system());
  REQUIRE(opened.has_value());
  const TensorView view = (*opened)->tensor("big").value();
  CHECK(view.size_bytes == size_bytes);
  CHECK(view.data[size_bytes - 1] == std::byte{0});
}

TEST_CASE("when any operation fails while a set is opened the error says so and nothing is opened", "[ggufish]") {
  const TempDir dir;
  for (const auto& [name, raw] : good_set(3)) write_bytes(dir.path() + "/" + name, raw.encode());
  for (const LoadMode mode : kModes) {
    int failures = 0;
    for (int fail_at = 0;; ++fail_at) {
      FaultPlan plan{fail_at, Code::kIo};
      FaultFileSystem fs(plan);
      const auto opened = ModelFile::open(dir.path() + "/m-00001-of-00003.gguf", mode, fs);
      if (opened.has_value()) break;
      ++failures;
      // Memory that cannot be locked is no fault of the model.
      const bool lock_failed = opened.error().message.find("fault in lock") != std::string::npos;
      CHECK(opened.error().code == (lock_failed ? Code::kNoMemory : Code::kBadModel));
      CHECK(lock_failed == (opened.error().message.find("ulimit -l") != std::string::npos));
    }
    // Of three files each: open and map; and lock; or size and two reads.
    CHECK(failures == (mode == LoadMode::kMmap ? 6 : mode == LoadMode::kMmapLocked ? 9 : 12));
  }
}

TEST_CASE("pages of a tensor are dropped in the mapping of its own part, and private copies are left alone",
          "[ggufish]") {
  const TempDir dir;
  for (const auto& [name, raw] : good_set(3)) write_bytes(dir.path() + "/" + name, raw.encode());
  for (const LoadMode mode : kModes) {
    FaultPlan plan;
    FaultFileSystem fs(plan);
    const auto opened = ModelFile::open(dir.path() + "/m-00001-of-00003.gguf", mode, fs);
    REQUIRE(opened.has_value());
    for (const TensorEntry& entry : (*opened)->tensors()) (*opened)->drop_pages(entry.view);
    const float elsewhere = 0.0F;
    TensorView other;
    other.data = reinterpret_cast<const std::byte*>(&elsewhere);
    other.size_bytes = sizeof(elsewhere);
    (*opened)->drop_pages(other);
    if (mode == LoadMode::kRead || mode == LoadMode::kDirect) {
      CHECK(plan.dropped.empty());
      continue;
    }
    REQUIRE(plan.dropped.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      const TensorEntry& entry = (*opened)->tensors()[i];
      CHECK(plan.dropped[i] == std::make_pair(entry.offset, entry.view.size_bytes));
    }
    // What lies before them can be dropped too, and read again.
    plan.dropped.clear();
    (*opened)->drop_header();
    REQUIRE(plan.dropped.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      CHECK(plan.dropped[i] == std::make_pair(uint64_t{0}, (*opened)->tensors()[i].offset));
    }
    CHECK((*opened)->meta().has("general.architecture"));
  }
}

TEST_CASE("when any operation fails while a file is written the old file stays and no other is left", "[ggufish]") {
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  REQUIRE(one_tensor(1).write(posix_file_system(), path).has_value());
  for (int fail_at = 0;; ++fail_at) {
    FaultPlan plan{fail_at, Code::kNoSpace};
    FaultFileSystem fs(plan);
    const Status written = one_tensor(2).write(fs, path);
    CHECK(dir.count_files() == 1);
    if (written.has_value()) break;
    CHECK(written.error().code == Code::kNoSpace);
    const bool renamed = written.error().message.find("directory") != std::string::npos;
    CHECK(mark_of(path) == (renamed ? 2 : 1));
    REQUIRE(one_tensor(1).write(posix_file_system(), path).has_value());
  }
  CHECK(mark_of(path) == 2);
}

TEST_CASE("a vocabulary of a million strings opens and comes out whole", "[ggufish]") {
  std::vector<std::string> words;
  for (int i = 0; i < 1000000; ++i) words.push_back(format("word{}", i));
  Writer writer;
  writer.add_strings("tokens", words);
  const auto bytes = writer.finish();
  const auto opened = ModelFile::parse(*bytes, "big.gguf");
  REQUIRE(opened.has_value());
  const auto strings = (*opened)->meta().get_strings("tokens");
  REQUIRE(strings.has_value());
  CHECK(std::equal(strings->begin(), strings->end(), words.begin(), words.end()));
}

TEST_CASE("many keys and tensors with long common beginnings are all found", "[ggufish]") {
  RawFile file;
  for (uint32_t i = 0; i < 20000; ++i) {
    file.keys.push_back({std::string(200, 'k') + std::to_string(i), 4, scalar_value(i), {}});
    file.tensors.push_back({std::string(50, 't') + std::to_string(i), {8}, 0, 32, {}, {}, {}});
  }
  const Bytes bytes = file.encode();
  const auto opened = ModelFile::parse(bytes, "many.gguf");
  REQUIRE(opened.has_value());
  for (const uint32_t i : {0U, 1U, 777U, 9999U, 19999U}) {
    CHECK((*opened)->meta().get_int(std::string(200, 'k') + std::to_string(i)).value() == i);
    const TensorView* view = (*opened)->find_tensor(std::string(50, 't') + std::to_string(i));
    REQUIRE(view != nullptr);
    CHECK(view->data == (*opened)->tensors()[i].view.data);
  }
}

TEST_CASE("real models open with their keys and tensors", "[ggufish]") {
  const char* folder = std::getenv("LCRUN_MODEL_DIR");
  if (folder == nullptr) return;
  const auto smol =
      ModelFile::open(std::string(folder) + "/SmolLM2-135M-Instruct.Q4_1.gguf", LoadMode::kMmap, posix_file_system());
  REQUIRE(smol.has_value());
  CHECK((*smol)->meta().get_string("general.architecture").value() == "llama");
  CHECK((*smol)->meta().get_int("llama.block_count").value() == 30);
  CHECK((*smol)->meta().get_strings("tokenizer.ggml.tokens").value().size() == 49152);
  CHECK((*smol)->tensors().size() == 272);
  CHECK((*smol)->tensor("token_embd.weight").value().ne == std::array<int64_t, 4>{576, 49152, 1, 1});
  const auto gemma =
      ModelFile::open(std::string(folder) + "/gemma-3-270m-q4_k_m.gguf", LoadMode::kMmap, posix_file_system());
  REQUIRE(gemma.has_value());
  CHECK((*gemma)->meta().get_string("general.architecture").value() == "gemma3");
  CHECK((*gemma)->meta().get_floats("tokenizer.ggml.scores").value().size() == 262144);
  CHECK((*gemma)->tensors().size() == 236);
}
