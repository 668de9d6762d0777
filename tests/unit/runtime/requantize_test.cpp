// Re-quantised files: what is converted, what stays, what falls back, and the report.
#include "src/runtime/requantize.hpp"

#include <catch2/catch.hpp>
#include <fstream>

#include "quant/format.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_model.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

std::string write_model(const test::TempDir& dir, const TinyOptions& options) {
  const auto bytes = encode_tiny(tiny_recipe(options));
  REQUIRE(bytes.has_value());
  const std::string path = dir.path() + "/in.gguf";
  REQUIRE(write_file_atomically(posix_file_system(), path, *bytes).has_value());
  return path;
}

}  // namespace

TEST_CASE("matrices are converted, vectors and norms stay, and the report adds up", "[runtime][requantize]") {
  const test::TempDir dir;
  const std::string from = write_model(dir, {});
  const std::string to = dir.path() + "/out.gguf";
  const auto report = requantize(posix_file_system(), from, to, DType::kQ8_0, 2, {});
  INFO((report.has_value() ? std::string() : report.error().message));
  REQUIRE(report.has_value());
  const auto file = ggufish::ModelFile::open(to, ggufish::LoadMode::kMmap, posix_file_system());
  REQUIRE(file.has_value());
  uint64_t bytes = 0;
  double largest = 0;
  for (const auto& tensor : (*file)->tensors()) {
    INFO(tensor.name);
    const bool is_matrix = tensor.view.rows() > 1;
    CHECK(tensor.view.dtype == (is_matrix ? DType::kQ8_0 : DType::kF32));
    bytes += tensor.view.size_bytes;
  }
  for (const auto& tensor : report->tensors) largest = std::max(largest, tensor.report.max_error);
  CHECK(report->to_bytes() == bytes);
  CHECK(report->max_error() == largest);
  CHECK(report->rmse() > 0);
  CHECK(report->rmse() < report->max_error());
  CHECK(*(*file)->meta().get_int("general.file_type") == 7);
  CHECK(*(*file)->meta().get_string("general.architecture") == "llama");
}

TEST_CASE("rows that are no whole blocks get a type that fits, and a note", "[runtime][requantize]") {
  const test::TempDir dir;
  const std::string from = write_model(dir, {});  // rows of 64 and 96: no multiple of 256
  const std::string to = dir.path() + "/out.gguf";
  const auto report = requantize(posix_file_system(), from, to, DType::kQ6_K, 1, {});
  REQUIRE(report.has_value());
  bool any = false;
  for (const auto& tensor : report->tensors) {
    if (!tensor.fell_back) continue;
    any = true;
    CHECK(tensor.to == DType::kQ8_0);
  }
  CHECK(any);
}

TEST_CASE("a model is never written over itself, whatever its name", "[runtime][requantize]") {
  const test::TempDir dir;
  const std::string from = write_model(dir, {});
  const std::string alias = dir.path() + "/./in.gguf";
  for (const std::string& to : {from, alias}) {
    const auto report = requantize(posix_file_system(), from, to, DType::kQ8_0, 1, {});
    REQUIRE_FALSE(report.has_value());
    CHECK(report.error().code == Code::kInvalidArgument);
  }
}

TEST_CASE("stopping leaves no file behind", "[runtime][requantize]") {
  const test::TempDir dir;
  const std::string from = write_model(dir, {});
  const auto report = requantize(posix_file_system(), from, dir.path() + "/out.gguf", DType::kQ8_0, 1,
                                 [](int64_t done, int64_t) { return done < 5; });
  REQUIRE_FALSE(report.has_value());
  CHECK(report.error().code == Code::kCancelled);
  CHECK(dir.count_files() == 1);
}

TEST_CASE("types that cannot be written are unsupported, with a list", "[runtime][requantize]") {
  for (const char* name : {"Q9_9", "IQ1_S", "I32", ""}) {
    INFO(name);
    const auto type = writable_type(name);
    REQUIRE_FALSE(type.has_value());
    CHECK(type.error().code == Code::kUnsupported);
    CHECK(type.error().message.find("Q8_0") != std::string::npos);
  }
  CHECK(*writable_type("q4_0") == DType::kQ4_0);
}
