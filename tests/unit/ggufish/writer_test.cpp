#include "ggufish/writer.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>

#include "ggufish/layout.hpp"
#include "src/base/format.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::ggufish;

namespace {

std::vector<std::byte> counting_bytes(size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 37 + 11);
  return bytes;
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

std::span<const std::byte> data_of(const TensorView& view) { return {view.data, static_cast<size_t>(view.size_bytes)}; }

// One key of every type, tensors of odd sizes.
Writer build_sample() {
  Writer writer;
  writer.add_string("general.architecture", "llama");
  writer.add_u32("u32", 4000000000U);
  writer.add_i32("i32", -5);
  writer.add_u64("u64", uint64_t{1} << 40);
  writer.add_f32("f32", 0.5F);
  writer.add_bool("bool", true);
  const std::vector<std::string> words{"", "two", std::string("\0nul", 4), "\xff\xfe"};
  writer.add_strings("strings", words);
  const std::vector<int32_t> ints{-1, 0, 7};
  writer.add_i32s("i32s", ints);
  const std::vector<uint32_t> unsigned_ints{1, 4294967295U};
  writer.add_u32s("u32s", unsigned_ints);
  const std::vector<float> floats{-1.5F, 3.25F};
  writer.add_f32s("f32s", floats);
  const bool bools[] = {true, false, true};
  writer.add_bools("bools", bools);
  const std::vector<int64_t> matrix{3, 5};
  writer.add_tensor("matrix", DType::kF32, matrix, counting_bytes(60));
  const std::vector<int64_t> row{64};
  writer.add_tensor("row", DType::kQ8_0, row, counting_bytes(68));
  const std::vector<int64_t> cube{2, 3, 4, 5};
  writer.add_tensor("cube", DType::kF16, cube, counting_bytes(240));
  return writer;
}

}  // namespace

TEST_CASE("what the writer writes the reader reads back, keys and tensors in order", "[ggufish]") {
  const auto bytes = build_sample().finish();
  REQUIRE(bytes.has_value());
  const auto opened = ModelFile::parse(*bytes, "sample.gguf");
  REQUIRE(opened.has_value());
  const ModelFile& file = **opened;
  CHECK(file.version() == 3);
  CHECK(file.path() == "sample.gguf");
  CHECK(file.file_bytes() == bytes->size());
  const Metadata& meta = file.meta();
  CHECK(meta.get_string("general.architecture").value() == "llama");
  CHECK(meta.get_int("u32").value() == 4000000000);
  CHECK(meta.get_int("i32").value() == -5);
  CHECK(meta.get_int("u64").value() == int64_t{1} << 40);
  CHECK(meta.get_float("f32").value() == 0.5);
  CHECK(meta.get_bool("bool").value());
  CHECK(meta.get_strings("strings").value() ==
        std::vector<std::string_view>{"", "two", std::string_view("\0nul", 4), "\xff\xfe"});
  CHECK(meta.get_ints("i32s").value() == std::vector<int64_t>{-1, 0, 7});
  CHECK(meta.get_ints("u32s").value() == std::vector<int64_t>{1, 4294967295});
  CHECK(meta.get_floats("f32s").value() == std::vector<float>{-1.5F, 3.25F});
  CHECK(meta.get_ints("bools").value() == std::vector<int64_t>{1, 0, 1});

  REQUIRE(file.tensors().size() == 3);
  CHECK(file.tensors()[0].name == "matrix");
  CHECK(file.tensors()[2].name == "cube");
  const TensorView* cube = file.find_tensor("cube");
  REQUIRE(cube != nullptr);
  CHECK(cube->ne == std::array<int64_t, 4>{2, 3, 4, 5});
  CHECK(cube->row_bytes == 4);
  CHECK(same_bytes(data_of(*cube), counting_bytes(240)));
  CHECK(same_bytes(data_of(file.tensor("row").value()), counting_bytes(68)));
  CHECK(file.tensor("row").value().ne == std::array<int64_t, 4>{64, 1, 1, 1});
  CHECK(file.tensors()[1].offset % 32 == 0);
  CHECK(file.find_tensor("none") == nullptr);
  CHECK(file.tensor("none").error().code == Code::kBadModel);
}

TEST_CASE("a written file equals the finished bytes in every load mode, and writing leaves nothing else", "[ggufish]") {
  const test::TempDir dir;
  const Writer writer = build_sample();
  FileSystem& fs = posix_file_system();
  const std::string path = dir.path() + "/any name.bin";
  REQUIRE(writer.write(fs, path).has_value());
  CHECK(dir.count_files() == 1);
  const auto bytes = writer.finish();
  for (const LoadMode mode : {LoadMode::kMmap, LoadMode::kMmapLocked, LoadMode::kRead, LoadMode::kDirect}) {
    const auto opened = ModelFile::open(path, mode, fs);
    REQUIRE(opened.has_value());
    CHECK((*opened)->file_bytes() == bytes->size());
    const auto parsed = ModelFile::parse(*bytes, "memory");
    for (const TensorEntry& entry : (*parsed)->tensors()) {
      const TensorView view = (*opened)->tensor(entry.name).value();
      CHECK(same_bytes(data_of(view), data_of(entry.view)));
      (*opened)->drop_pages(view);
      CHECK(same_bytes(data_of(view), data_of(entry.view)));
    }
  }
}

TEST_CASE("copying every key of a file gives the same file again, whatever the types", "[ggufish]") {
  Writer first = build_sample();
  const std::vector<std::byte> odd{std::byte{3}, {}, {}, {}, std::byte{0xFE}, std::byte{0xFF}};  // an i16 of -2
  first.add_encoded("i16", odd);
  const auto bytes = first.finish();
  const auto opened = ModelFile::parse(*bytes, "first");
  REQUIRE(opened.has_value());
  CHECK((*opened)->meta().get_int("i16").value() == -2);
  Writer second;
  for (const auto& entry : (*opened)->meta().entries()) second.copy_key(**opened, entry.key);
  for (const TensorEntry& entry : (*opened)->tensors()) {
    const size_t dims = entry.name == "matrix" ? 2 : entry.name == "row" ? 1 : 4;
    second.add_tensor_view(entry.name, entry.view.dtype, std::span(entry.view.ne).first(dims), data_of(entry.view));
  }
  const auto again = second.finish();
  REQUIRE(again.has_value());
  CHECK(same_bytes(*again, *bytes));
}

TEST_CASE("tensors made while writing give the same bytes as tensors held", "[ggufish]") {
  const std::vector<int64_t> ne{32, 2};
  Writer held;
  held.add_tensor("t", DType::kQ4_0, ne, counting_bytes(36));
  Writer made;
  int calls = 0;
  made.add_tensor_made("t", DType::kQ4_0, ne, [&]() -> Result<std::vector<std::byte>> {
    ++calls;
    return counting_bytes(36);
  });
  CHECK(same_bytes(made.finish().value(), held.finish().value()));
  CHECK(calls == 1);
  Writer failing;
  failing.add_tensor_made("t", DType::kQ4_0, ne,
                          []() -> Result<std::vector<std::byte>> { return make_error(Code::kCancelled, "stopped"); });
  const test::TempDir dir;
  CHECK(failing.write(posix_file_system(), dir.path() + "/f").error().code == Code::kCancelled);
  CHECK(dir.count_files() == 0);
}

TEST_CASE("the writer refuses what the reader would refuse", "[ggufish]") {
  const std::vector<int64_t> ne{32};
  const auto code_after = [](const auto& change) {
    Writer writer;
    change(writer);
    const auto bytes = writer.finish();
    return bytes.has_value() ? Code::kInternal : bytes.error().code;
  };
  CHECK(code_after([](Writer& w) { w.add_u32("", 1); }) == Code::kInvalidArgument);
  CHECK(code_after([](Writer& w) { w.add_u32(std::string(65536, 'k'), 1); }) == Code::kInvalidArgument);
  CHECK(code_after([](Writer& w) { w.add_u32("k", 1), w.add_u32("k", 1); }) == Code::kInvalidArgument);
  CHECK(code_after([](Writer& w) { w.add_u32("general.alignment", 24); }) == Code::kInvalidArgument);
  CHECK(code_after([](Writer& w) { w.add_f32("general.alignment", 32.0F); }) == Code::kInvalidArgument);
  CHECK(code_after([&](Writer& w) { w.add_tensor("t", DType::kQ8_0, ne, counting_bytes(33)); }) ==
        Code::kInvalidArgument);
  CHECK(code_after([&](Writer& w) { w.add_tensor(std::string(64, 'n'), DType::kQ8_0, ne, counting_bytes(34)); }) ==
        Code::kInvalidArgument);
  const std::vector<int64_t> odd_row{31};
  CHECK(code_after([&](Writer& w) { w.add_tensor("t", DType::kQ8_0, odd_row, {}); }) == Code::kInvalidArgument);
  const std::vector<int64_t> zero{32, 0};
  CHECK(code_after([&](Writer& w) { w.add_tensor("t", DType::kF32, zero, {}); }) == Code::kInvalidArgument);
  CHECK(code_after([&](Writer& w) { w.add_tensor("t", DType::kF32, {}, {}); }) == Code::kInvalidArgument);
  CHECK(code_after([&](Writer& w) { w.add_tensor("t", static_cast<DType>(31), ne, {}); }) == Code::kInvalidArgument);
  const auto other = Writer().finish();
  const auto empty = ModelFile::parse(*other, "empty");
  REQUIRE(empty.has_value());
  CHECK(code_after([&](Writer& w) { w.copy_key(**empty, "none"); }) == Code::kInvalidArgument);
}

TEST_CASE("another alignment moves the tensors and is read back", "[ggufish]") {
  const std::vector<int64_t> ne{3};
  for (const uint32_t alignment : {8U, 64U, 4096U, 1U << 20}) {
    Writer writer;
    writer.add_u32("general.alignment", alignment);
    writer.add_tensor("a", DType::kF32, ne, counting_bytes(12));
    writer.add_tensor("b", DType::kF32, ne, counting_bytes(12));
    const auto bytes = writer.finish();
    const auto opened = ModelFile::parse(*bytes, "aligned");
    REQUIRE(opened.has_value());
    CHECK((*opened)->tensors()[0].offset % alignment == 0);
    CHECK((*opened)->tensors()[1].offset ==
          (*opened)->tensors()[0].offset + alignment * ((12 + alignment - 1) / alignment));
  }
}
