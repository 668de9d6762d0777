// The keys of one file, kept as they lie there and converted when asked for.
//
// Nothing is copied while a file is opened: a vocabulary of a million strings costs one walk over its
// lengths. The index is an order of positions, not a hash table, so a hostile file cannot make look-ups slow.
// Thread rule: immutable.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"

namespace lcrun::ggufish {

// A key and its value as found, bounds already checked.
struct KeyValue {
  std::string_view key;
  ValueType type = ValueType::kU8;
  ValueType element_type = ValueType::kU8;  // of an array
  uint64_t count = 1;                       // elements of an array
  uint64_t offset = 0;                      // of the value type, in its file
  std::span<const std::byte> encoded;       // value type and value, as in the file
  std::span<const std::byte> payload;       // scalar, characters of a string, or all elements of an array
};

// A sorted order over names: finds by binary search, tells the first that is there twice.
class NameIndex {
 public:
  NameIndex() = default;
  // What `names` view must outlive the index.
  explicit NameIndex(std::vector<std::string_view> names);
  // Position of `name`, or -1.
  int64_t find(std::string_view name) const;
  // Position of a name that an earlier position has too, or -1.
  int64_t find_duplicate() const;

 private:
  std::vector<std::string_view> names_;  // in file order
  std::vector<uint32_t> order_;          // positions, by name
};

class MetadataTable final : public Metadata {
 public:
  // `file` is the name in messages; the bytes behind `values` must outlive the table.
  MetadataTable(const std::string& file, std::vector<KeyValue> values);

  bool has(std::string_view key) const override;
  Result<int64_t> get_int(std::string_view key) const override;
  Result<double> get_float(std::string_view key) const override;
  Result<bool> get_bool(std::string_view key) const override;
  Result<std::string_view> get_string(std::string_view key) const override;
  Result<std::vector<int64_t>> get_ints(std::string_view key) const override;
  Result<std::vector<float>> get_floats(std::string_view key) const override;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const override;
  bool is_array(std::string_view key) const override;
  Error fail(std::string_view key, std::string_view found, std::string_view wanted) const override;
  std::vector<Entry> entries() const override;
  std::span<const std::byte> encoded(std::string_view key) const override;

  // Null when absent.
  const KeyValue* find(std::string_view key) const;
  // A key that is there twice (its later occurrence), or null.
  const KeyValue* find_duplicate() const;

 private:
  Result<const KeyValue*> require(std::string_view key, std::string_view wanted) const;
  Result<const KeyValue*> require_array(std::string_view key, std::string_view wanted) const;
  Error wrong_type(const KeyValue& value, std::string_view wanted) const;

  std::string file_;
  std::vector<KeyValue> values_;  // in file order
  NameIndex index_;
};

}  // namespace lcrun::ggufish
