// ByteReader and ByteWriter: bounds-checked little-endian access. Every parser of ours reads through it.
//
// A read past the end returns an error that names the offset, the bytes wanted and the bytes left; nothing is
// allocated from a count found in the input before that count has been checked against the bytes that remain.
// Hosts are little endian (x86-64, aarch64): values are copied, not swapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "src/base/format.hpp"
#include "src/base/result.hpp"

namespace lcrun {

class ByteReader {
 public:
  // `code` is the code of errors made here; `what` names the input in messages (a file path).
  ByteReader(std::span<const std::byte> bytes, std::string what, Code code)
      : bytes_(bytes), what_(std::move(what)), code_(code) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  template <class T>
  Result<T> read(std::string_view field) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (remaining() < sizeof(T)) return short_input(field, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  // A view into the input; valid while the input is.
  Result<std::span<const std::byte>> read_bytes(std::string_view field, uint64_t count) {
    if (remaining() < count) return short_input(field, count);
    auto view = bytes_.subspan(static_cast<size_t>(offset_), static_cast<size_t>(count));
    offset_ += count;
    return view;
  }

  Status skip(std::string_view field, uint64_t count) {
    if (remaining() < count) return short_input(field, count);
    offset_ += count;
    return {};
  }

  // An error of this input at the present offset: "FILE: offset N: FIELD: found F, wanted W".
  Error fail(std::string_view field, std::string_view found, std::string_view wanted) const {
    return make_error(code_, "{}: offset {}: {}: found {}, wanted {}", what_, offset_, field, found, wanted);
  }
  Error fail_at(uint64_t offset, std::string_view field, std::string_view found, std::string_view wanted) const {
    return make_error(code_, "{}: offset {}: {}: found {}, wanted {}", what_, offset, field, found, wanted);
  }

 private:
  Error short_input(std::string_view field, uint64_t count) const {
    return fail(field, format("{} bytes left", remaining()), format("{} bytes", count));
  }

  std::span<const std::byte> bytes_;
  std::string what_;
  uint64_t offset_ = 0;
  Code code_;
};

class ByteWriter {
 public:
  template <class T>
  void write(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(&value, sizeof(T));
  }
  void append(const void* data, size_t count) {
    if (count == 0) return;
    const size_t at = bytes_.size();
    bytes_.resize(at + count);  // not insert(): g++ 12 warns of an overflow that cannot be
    std::memcpy(bytes_.data() + at, data, count);
  }
  void pad_to(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(std::byte{0});
  }
  size_t size() const { return bytes_.size(); }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace lcrun
