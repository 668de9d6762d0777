// Writes GGUF v3 files: used by `lcrun quantize`, by converters and by tests that need tiny models.
//
// Keys and tensors appear in the order in which they were added. The result is what model_file.hpp accepts: padded
// offsets without holes, alignment 32 unless set otherwise. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::ggufish {

class Writer {
 public:
  void add_u32(std::string_view key, uint32_t value);
  void add_i32(std::string_view key, int32_t value);
  void add_u64(std::string_view key, uint64_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_i32s(std::string_view key, std::span<const int32_t> values);
  void add_u32s(std::string_view key, std::span<const uint32_t> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  void add_bools(std::string_view key, std::span<const bool> values);
  // Copies a key of another file unchanged, whatever its type.
  void copy_key(const ModelFile& from, std::string_view key);

  // Copies the bytes: ne in GGUF order (ne[0] contiguous), n_dims 1..4.
  void add_tensor(std::string_view name, DType dtype, std::span<const int64_t> ne, std::vector<std::byte> data);

  // The whole file.
  Result<std::vector<std::byte>> finish() const;
  // Streams to `path` (temporary file, sync, rename).
  Status write(FileSystem& fs, const std::string& path) const;

 private:
  struct Key {
    std::string key;
    std::vector<std::byte> encoded;  // value type and value
  };
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> ne;
    std::vector<std::byte> data;
  };
  std::vector<Key> keys_;
  std::vector<Tensor> tensors_;
};

}  // namespace lcrun::ggufish
