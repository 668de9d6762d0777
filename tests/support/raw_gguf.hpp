// Builds GGUF bytes field by field, wrong ones included: every count, length and offset can be overruled.
//
// The writer of the project (ggufish/writer.hpp) refuses to write what a reader must refuse; this one does
// not. encode() tells where each field begins, so that tests can cut files there. Thread rule: plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lcrun::test {

using Bytes = std::vector<std::byte>;

template <class T>
void put(Bytes& out, T value) {
  const auto at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}
void put_text(Bytes& out, std::string_view text);    // characters only
void put_string(Bytes& out, std::string_view text);  // length and characters
Bytes string_value(std::string_view text);
Bytes array_value(uint32_t element_type, uint64_t count, const Bytes& elements);
template <class T>
Bytes scalar_value(T value) {
  Bytes out;
  put(out, value);
  return out;
}

struct RawKey {
  std::string name;
  uint32_t type = 4;  // u32
  Bytes value = scalar_value<uint32_t>(1);
  std::optional<uint64_t> name_length;
};

struct RawTensor {
  std::string name;
  std::vector<uint64_t> ne;
  uint32_t type = 0;        // F32
  uint64_t size_bytes = 0;  // counted into the offsets of those after it
  std::optional<uint64_t> name_length;
  std::optional<uint32_t> n_dims;
  std::optional<uint64_t> offset;
};

struct RawFile {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> n_tensors;
  std::optional<uint64_t> n_keys;
  std::vector<RawKey> keys;
  std::vector<RawTensor> tensors;
  uint64_t alignment = 32;  // of the layout; says nothing in the keys
  std::optional<uint64_t> data_bytes;

  Bytes encode(std::vector<size_t>* boundaries = nullptr) const;
};

// A small good file: nine keys (all kinds of value), three tensors.
RawFile good_file();

}  // namespace lcrun::test
