// A model file, opened and checked: typed metadata and tensor views. Split sets are opened through their
// first part.
//
// Everything that can be wrong with a file is found here or reported through Result, never later as a crash:
// messages name the file, the byte offset, the field, what was found and what was wanted (code kBadModel, or
// kUnsupported for well-formed files of a version or type that we do not have).
// Thread rule: immutable after open(); any number of threads may read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::ggufish {

// On disk: never renumber.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// Typed look-up of metadata. Integers convert between widths when the value fits; a value of another kind is
// an error (kBadModel) that names the key, the type found and the type wanted. Absent keys: kBadModel too
// ("KEY: found nothing, wanted ..."); use has() or the *_or forms for optional ones. Views live as long as
// the file.
class Metadata {
 public:
  virtual ~Metadata() = default;
  virtual bool has(std::string_view key) const = 0;
  virtual Result<int64_t> get_int(std::string_view key) const = 0;   // any integer type
  virtual Result<double> get_float(std::string_view key) const = 0;  // F32, F64; integers are accepted
  virtual Result<bool> get_bool(std::string_view key) const = 0;     // Bool; U8/I8 of 0 or 1
  virtual Result<std::string_view> get_string(std::string_view key) const = 0;
  // Arrays of exactly that kind (any width).
  virtual Result<std::vector<int64_t>> get_ints(std::string_view key) const = 0;  // integer or bool elements
  virtual Result<std::vector<float>> get_floats(std::string_view key) const = 0;
  virtual Result<std::vector<std::string_view>> get_strings(std::string_view key) const = 0;
  // Is the value an array? (many keys are a scalar or one value per layer)
  virtual bool is_array(std::string_view key) const = 0;

  // Absent: `fallback`. Present but wrong: the error.
  Result<int64_t> int_or(std::string_view key, int64_t fallback) const { return has(key) ? get_int(key) : fallback; }
  Result<double> float_or(std::string_view key, double fallback) const { return has(key) ? get_float(key) : fallback; }
  Result<bool> bool_or(std::string_view key, bool fallback) const { return has(key) ? get_bool(key) : fallback; }
  // An error about a key: "FILE: [offset N: ]KEY: found FOUND, wanted WANTED".
  virtual Error fail(std::string_view key, std::string_view found, std::string_view wanted) const = 0;

  struct Entry {
    std::string_view key;
    ValueType type;          // kArray for arrays
    ValueType element_type;  // of an array
    uint64_t count;          // elements of an array, 1 otherwise
    std::string text;        // the value for people, shortened
  };
  virtual std::vector<Entry> entries() const = 0;  // in file order, for `inspect`
  // Value type and value as they lie in the file, for copies; empty when absent.
  virtual std::span<const std::byte> encoded(std::string_view /*key*/) const { return {}; }
};

struct TensorEntry {
  std::string_view name;
  TensorView view;
  uint64_t offset = 0;  // in its file
  int32_t part = 0;     // file of the split set
};

enum class LoadMode : uint8_t {
  kMmap,        // map, pages read on demand
  kMmapLocked,  // map and mlock
  kRead,        // read into memory of our own
  kDirect,      // the same with O_DIRECT
};

class ModelFile {
 public:
  virtual ~ModelFile() = default;
  static Result<std::shared_ptr<const ModelFile>> open(const std::string& path, LoadMode mode, FileSystem& fs);
  // A complete single file in memory (tests, fuzzing); `name` stands for the path in messages. Copies
  // nothing: the bytes must outlive the object, and be aligned as new and malloc align (tensors are read in
  // place).
  static Result<std::shared_ptr<const ModelFile>> parse(std::span<const std::byte> bytes, const std::string& name);

  virtual const std::string& path() const = 0;
  virtual uint32_t version() const = 0;
  virtual const Metadata& meta() const = 0;
  virtual std::span<const TensorEntry> tensors() const = 0;
  // Null when absent.
  virtual const TensorView* find_tensor(std::string_view name) const = 0;
  // kBadModel when absent.
  virtual Result<TensorView> tensor(std::string_view name) const = 0;
  virtual uint64_t file_bytes() const = 0;  // of all parts
  // Hint: the bytes of this tensor will not be read soon (they were packed). No effect on private copies.
  virtual void drop_pages(const TensorView& view) const = 0;
  // The same for what lies before the tensors: keys, vocabulary, descriptions.
  virtual void drop_header() const = 0;
  // kBadModel: a part of the mapped file is gone, and tensors read as zeros (src/base/mapping_guard.hpp).
  virtual Status status() const { return {}; }
};

}  // namespace lcrun::ggufish
