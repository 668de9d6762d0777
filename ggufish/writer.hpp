// Writes GGUF v3 files: used by `lcrun quantize`, by converters and by tests that need tiny models.
//
// Keys and tensors appear in the order in which they were added. The result is what model_file.hpp accepts:
// padded offsets without holes, alignment 32 unless the key general.alignment says otherwise. What could not
// be accepted (a key twice, a long name, bytes that do not fit the shape) is remembered and reported by
// finish() and write() as kInvalidArgument. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <functional>
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
  // Any type: the value type and the value as they lie in a file (Metadata::encoded). Not looked into.
  void add_encoded(std::string_view key, std::span<const std::byte> encoded);
  // Copies a key of another file unchanged, whatever its type.
  void copy_key(const ModelFile& from, std::string_view key);

  // ne in GGUF order (ne[0] contiguous), 1..4 dimensions; the bytes must fit shape and type.
  void add_tensor(std::string_view name, DType dtype, std::span<const int64_t> ne, std::vector<std::byte> data);
  // The same without a copy: `data` must live until the file is written.
  void add_tensor_view(std::string_view name, DType dtype, std::span<const int64_t> ne,
                       std::span<const std::byte> data);
  // The same with bytes that `make` returns while the file is written: at most one such tensor is in memory.
  // Each finish() or write() calls it once.
  using MakeBytes = std::function<Result<std::vector<std::byte>>()>;
  void add_tensor_made(std::string_view name, DType dtype, std::span<const int64_t> ne, MakeBytes make);

  // The whole file.
  Result<std::vector<std::byte>> finish() const;
  // Streams to `path` (temporary file, sync, rename): needs no more memory than the tensors themselves.
  Status write(FileSystem& fs, const std::string& path) const;

 private:
  struct Key {
    std::string key;
    std::vector<std::byte> encoded;  // value type and value
  };
  struct Tensor {
    std::string name;
    DType dtype = DType::kF32;
    std::vector<int64_t> ne;
    std::vector<std::byte> owned;
    std::span<const std::byte> view;
    MakeBytes make;
    uint64_t size_bytes = 0;  // by shape and type
  };
  // Takes the pieces of a file in order.
  using Sink = std::function<Status(std::span<const std::byte>)>;

  template <class T>
  void add_scalar(std::string_view key, ValueType type, const T& value);
  template <class T>
  void add_array(std::string_view key, ValueType type, std::span<const T> values);
  void add_checked(Tensor tensor);
  void remember(std::string problem);
  Status check_names() const;
  Result<uint64_t> alignment() const;
  std::vector<std::byte> encode_head(uint64_t alignment) const;
  Status emit(const Sink& sink) const;

  std::vector<Key> keys_;
  std::vector<Tensor> tensors_;
  std::string problem_;  // the first thing that was wrong, empty if nothing
};

}  // namespace lcrun::ggufish
