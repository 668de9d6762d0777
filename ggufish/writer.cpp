#include "ggufish/writer.hpp"

#include <unistd.h>

#include <unordered_set>

#include "ggufish/layout.hpp"
#include "ggufish/printable.hpp"
#include "quant/format.hpp"
#include "src/base/bytes.hpp"
#include "src/base/format.hpp"

namespace lcrun::ggufish {
namespace {

void write_text(ByteWriter& out, std::string_view text) {
  out.write(static_cast<uint64_t>(text.size()));
  out.append(text.data(), text.size());
}

bool is_name(std::string_view name, uint64_t limit) {
  return !name.empty() && name.size() <= limit && is_plain_text(name);
}

// Bytes of a tensor; what is wrong with it otherwise.
Result<uint64_t> tensor_bytes(DType dtype, std::span<const int64_t> ne) {
  const quant::TypeInfo* type = quant::find_type(dtype);
  if (type == nullptr || type->removed) return quant::unsupported_type("a tensor", dtype);
  if (ne.empty() || ne.size() > kMaxDims) {
    return make_error(Code::kInvalidArgument, "found {} dimensions, wanted 1 to 4", ne.size());
  }
  int64_t elements = 1;
  for (const int64_t length : ne) {
    if (length < 1 || __builtin_mul_overflow(elements, length, &elements)) {
      return make_error(Code::kInvalidArgument, "found a dimension of {}, wanted a shape that can be addressed",
                        length);
    }
  }
  if (ne[0] % type->block_size != 0) {
    return make_error(Code::kInvalidArgument, "found rows of {}, wanted a multiple of {}, the block of {}", ne[0],
                      type->block_size, type->name);
  }
  uint64_t bytes = 0;
  const auto blocks = static_cast<uint64_t>(elements / type->block_size);
  if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(type->block_bytes), &bytes) || bytes >> 62 != 0) {
    return make_error(Code::kInvalidArgument, "found more than 2^62 bytes, wanted a tensor that can be addressed");
  }
  return bytes;
}

}  // namespace

void Writer::remember(std::string problem) {
  if (problem_.empty()) problem_ = std::move(problem);
}

template <class T>
void Writer::add_scalar(std::string_view key, ValueType type, const T& value) {
  ByteWriter out;
  out.write(static_cast<uint32_t>(type));
  out.write(value);
  keys_.push_back({std::string(key), out.take()});
}

template <class T>
void Writer::add_array(std::string_view key, ValueType type, std::span<const T> values) {
  ByteWriter out;
  out.write(static_cast<uint32_t>(ValueType::kArray));
  out.write(static_cast<uint32_t>(type));
  out.write(static_cast<uint64_t>(values.size()));
  out.append(values.data(), values.size_bytes());
  keys_.push_back({std::string(key), out.take()});
}

void Writer::add_u32(std::string_view key, uint32_t value) { add_scalar(key, ValueType::kU32, value); }
void Writer::add_i32(std::string_view key, int32_t value) { add_scalar(key, ValueType::kI32, value); }
void Writer::add_u64(std::string_view key, uint64_t value) { add_scalar(key, ValueType::kU64, value); }
void Writer::add_f32(std::string_view key, float value) { add_scalar(key, ValueType::kF32, value); }
void Writer::add_bool(std::string_view key, bool value) {
  add_scalar(key, ValueType::kBool, static_cast<uint8_t>(value ? 1 : 0));
}
void Writer::add_i32s(std::string_view key, std::span<const int32_t> values) {
  add_array(key, ValueType::kI32, values);
}
void Writer::add_u32s(std::string_view key, std::span<const uint32_t> values) {
  add_array(key, ValueType::kU32, values);
}
void Writer::add_f32s(std::string_view key, std::span<const float> values) { add_array(key, ValueType::kF32, values); }

void Writer::add_bools(std::string_view key, std::span<const bool> values) {
  static_assert(sizeof(bool) == 1);
  add_array(key, ValueType::kBool, values);
}

void Writer::add_string(std::string_view key, std::string_view value) {
  ByteWriter out;
  out.write(static_cast<uint32_t>(ValueType::kString));
  write_text(out, value);
  keys_.push_back({std::string(key), out.take()});
}

void Writer::add_strings(std::string_view key, std::span<const std::string> values) {
  ByteWriter out;
  out.write(static_cast<uint32_t>(ValueType::kArray));
  out.write(static_cast<uint32_t>(ValueType::kString));
  out.write(static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) write_text(out, value);
  keys_.push_back({std::string(key), out.take()});
}

void Writer::add_encoded(std::string_view key, std::span<const std::byte> encoded) {
  keys_.push_back({std::string(key), {encoded.begin(), encoded.end()}});
}

void Writer::copy_key(const ModelFile& from, std::string_view key) {
  const auto encoded = from.meta().encoded(key);
  if (encoded.empty()) return remember(format("{}: {}: found nothing, wanted a key to copy", from.path(), quoted(key)));
  add_encoded(key, encoded);
}

void Writer::add_checked(Tensor tensor) {
  const auto bytes = tensor_bytes(tensor.dtype, tensor.ne);
  if (!bytes.has_value()) return remember(format("tensor {}: {}", quoted(tensor.name), bytes.error().message));
  tensor.size_bytes = *bytes;
  tensors_.push_back(std::move(tensor));
}

void Writer::add_tensor(std::string_view name, DType dtype, std::span<const int64_t> ne, std::vector<std::byte> data) {
  add_checked({std::string(name), dtype, {ne.begin(), ne.end()}, std::move(data), {}, {}, 0});
}

void Writer::add_tensor_view(std::string_view name, DType dtype, std::span<const int64_t> ne,
                             std::span<const std::byte> data) {
  add_checked({std::string(name), dtype, {ne.begin(), ne.end()}, {}, data, {}, 0});
}

void Writer::add_tensor_made(std::string_view name, DType dtype, std::span<const int64_t> ne, MakeBytes make) {
  add_checked({std::string(name), dtype, {ne.begin(), ne.end()}, {}, {}, std::move(make), 0});
}

Status Writer::check_names() const {
  if (!problem_.empty()) return make_error(Code::kInvalidArgument, "{}", problem_);
  std::unordered_set<std::string_view> seen;
  for (const Key& key : keys_) {
    if (!is_name(key.key, kMaxKeyBytes) || !seen.insert(key.key).second) {
      return make_error(Code::kInvalidArgument,
                        "key {}: found a name that is empty, long, not plain text or there twice", quoted(key.key));
    }
  }
  seen.clear();
  for (const Tensor& tensor : tensors_) {
    if (!is_name(tensor.name, kMaxNameBytes) || !seen.insert(tensor.name).second) {
      return make_error(Code::kInvalidArgument,
                        "tensor {}: found a name that is empty, beyond {} bytes, not plain text or there twice",
                        quoted(tensor.name), kMaxNameBytes);
    }
  }
  return {};
}

Result<uint64_t> Writer::alignment() const {
  for (const Key& key : keys_) {
    if (key.key != kKeyAlignment) continue;
    ByteReader in(key.encoded, std::string(kKeyAlignment), Code::kInvalidArgument);
    LCRUN_ASSIGN(const uint32_t type, in.read<uint32_t>("value type"));
    LCRUN_ASSIGN(const uint32_t value, in.read<uint32_t>("value"));
    const bool power_of_two = value != 0 && (value & (value - 1)) == 0;
    if (type != static_cast<uint32_t>(ValueType::kU32) || !power_of_two || value < kMinAlignment ||
        value > kMaxAlignment) {
      return in.fail("value", format("{}", value),
                     format("a u32 power of two of {} to {}", kMinAlignment, kMaxAlignment));
    }
    return uint64_t{value};
  }
  return uint64_t{kDefaultAlignment};
}

// Everything before the data of the first tensor.
std::vector<std::byte> Writer::encode_head(uint64_t alignment) const {
  ByteWriter out;
  out.append(kMagic.data(), kMagic.size());
  out.write(kNewestVersion);
  out.write(static_cast<uint64_t>(tensors_.size()));
  out.write(static_cast<uint64_t>(keys_.size()));
  for (const Key& key : keys_) {
    write_text(out, key.key);
    out.append(key.encoded.data(), key.encoded.size());
  }
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    write_text(out, tensor.name);
    out.write(static_cast<uint32_t>(tensor.ne.size()));
    for (const int64_t length : tensor.ne) out.write(length);
    out.write(static_cast<uint32_t>(tensor.dtype));
    out.write(offset);
    offset = pad_up(offset + tensor.size_bytes, alignment);
  }
  out.pad_to(static_cast<size_t>(alignment));
  return out.take();
}

Status Writer::emit(const Sink& sink) const {
  LCRUN_TRY(check_names());
  LCRUN_ASSIGN(const uint64_t align, alignment());
  LCRUN_TRY(sink(encode_head(align)));
  for (const Tensor& tensor : tensors_) {
    std::vector<std::byte> made;
    std::span<const std::byte> data = tensor.view.empty() ? std::span<const std::byte>(tensor.owned) : tensor.view;
    if (tensor.make) {
      LCRUN_ASSIGN(made, tensor.make());
      data = made;
    }
    if (data.size() != tensor.size_bytes) {
      return make_error(Code::kInvalidArgument, "tensor {}: found {} bytes, wanted {} for its shape and type",
                        quoted(tensor.name), data.size(), tensor.size_bytes);
    }
    LCRUN_TRY(sink(data));
    const std::vector<std::byte> padding(static_cast<size_t>(pad_up(data.size(), align) - data.size()));
    LCRUN_TRY(sink(padding));
  }
  return {};
}

Result<std::vector<std::byte>> Writer::finish() const {
  std::vector<std::byte> bytes;
  LCRUN_TRY(emit([&](std::span<const std::byte> piece) -> Status {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  }));
  return bytes;
}

Status Writer::write(FileSystem& fs, const std::string& path) const {
  const std::string temporary = format("{}.tmp.{}", path, getpid());
  const Status written = [&]() -> Status {
    LCRUN_ASSIGN(auto file, fs.open(temporary, OpenMode::kReplaceShared));
    uint64_t offset = 0;
    LCRUN_TRY(emit([&](std::span<const std::byte> piece) {
      const uint64_t at = offset;
      offset += piece.size();
      return file->write_at(at, piece);
    }));
    return file->sync();
  }();
  const Status done = written.has_value() ? fs.rename(temporary, path) : written;
  if (!done.has_value()) {
    (void)fs.remove(temporary);
    return done;
  }
  return fs.sync_directory_of(path);
}

}  // namespace lcrun::ggufish
