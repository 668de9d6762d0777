#include "ggufish/reader.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "ggufish/layout.hpp"
#include "ggufish/printable.hpp"
#include "quant/format.hpp"
#include "src/base/bytes.hpp"
#include "src/base/format.hpp"

namespace lcrun::ggufish {
namespace {

constexpr auto kMaxInt64 = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Error unsupported(Error error) {
  error.code = Code::kUnsupported;
  return error;
}

// Which key or tensor is being read. The text is made only when something is wrong with it.
struct Item {
  const char* kind;
  uint64_t number;
  std::string_view name;

  std::string field(std::string_view part) const {
    std::string text = format("{} {}", kind, number);
    if (!name.empty()) text += ' ' + quoted(name);
    return format("{}: {}", text, part);
  }
};

template <class T>
Result<T> read(ByteReader& in, const Item& item, const char* part) {
  if (in.remaining() < sizeof(T)) {
    return in.fail(item.field(part), format("{} bytes left", in.remaining()), format("{} bytes", sizeof(T)));
  }
  return in.read<T>(part);
}

// A length-prefixed string of at most `limit` bytes.
Result<std::string_view> read_string(ByteReader& in, const Item& item, const char* part, uint64_t limit) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint64_t length, read<uint64_t>(in, item, part));
  if (length > limit)
    return in.fail_at(start, item.field(part), format("{} bytes", length), format("at most {}", limit));
  if (length > in.remaining()) {
    return in.fail_at(start, item.field(part), format("{} bytes", length),
                      format("at most the {} bytes left in the file", in.remaining()));
  }
  LCRUN_ASSIGN(const auto bytes, in.read_bytes(part, length));
  return as_text(bytes);
}

// A key or a tensor name: there, short, plain text.
Result<std::string_view> read_name(ByteReader& in, const Item& item, const char* part, uint64_t limit) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const std::string_view name, read_string(in, item, part, limit));
  if (name.empty()) return in.fail_at(start, item.field(part), "an empty one", format("1 to {} bytes", limit));
  if (!is_plain_text(name)) {
    return in.fail_at(start, item.field(part), quoted(name), "UTF-8 text without control characters");
  }
  return name;
}

Result<ValueType> read_value_type(ByteReader& in, const Item& item, const char* part) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint32_t id, read<uint32_t>(in, item, part));
  if (!is_value_type(id)) return in.fail_at(start, item.field(part), format("{}", id), "a value type of 0 to 12");
  return static_cast<ValueType>(id);
}

// ---- header

struct Header {
  uint32_t version = 0;
  uint64_t n_tensors = 0;
  uint64_t n_keys = 0;
};

Status check_magic(ByteReader& in) {
  const size_t size = static_cast<size_t>(std::min<uint64_t>(in.remaining(), kMagic.size()));
  const std::string_view found = as_text(in.bytes().first(size));
  if (found == kMagic) return in.skip("magic", size);
  const bool old = found == "lmgg" || found == "fmgg" || found == "tjgg" || found == "algg";
  if (old) {
    return in.fail("magic", format("{}, a format older than GGUF", quoted(found)),
                   "\"GGUF\": convert the model again from its source");
  }
  return in.fail("magic", size == 0 ? "an empty file" : quoted(found), "\"GGUF\": this is not a GGUF model");
}

Result<uint32_t> read_version(ByteReader& in) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint32_t version, in.read<uint32_t>("version"));
  if (version >= kOldestVersion && version <= kNewestVersion) return version;
  const uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= kNewestVersion) {
    return unsupported(in.fail_at(start, "version", format("byte-swapped {}, a big-endian file", swapped),
                                  "a little-endian file: convert its byte order"));
  }
  Error error = in.fail_at(start, "version", format("{}", version), "2 or 3");
  if (version == 1) error.message += ": convert the model again from its source";
  if (version == 0) return error;
  return unsupported(std::move(error));
}

// A count of things, each of which takes at least `least_bytes` of what remains.
Result<uint64_t> read_count(ByteReader& in, const char* field, uint64_t limit) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint64_t count, in.read<uint64_t>(field));
  if (count > limit) return in.fail_at(start, field, format("{}", count), format("at most {}", limit));
  return count;
}

Status check_count_fits(const ByteReader& in, const char* field, uint64_t at, uint64_t count, uint64_t least_bytes) {
  if (count <= in.remaining() / least_bytes) return {};
  return in.fail_at(
      at, field, format("{}", count),
      format("at most {}, for the {} bytes left in the file", in.remaining() / least_bytes, in.remaining()));
}

Result<Header> read_header(ByteReader& in) {
  LCRUN_TRY(check_magic(in));
  Header header;
  LCRUN_ASSIGN(header.version, read_version(in));
  const uint64_t tensors_at = in.offset();
  LCRUN_ASSIGN(header.n_tensors, read_count(in, "tensor count", kMaxTensors));
  const uint64_t keys_at = in.offset();
  LCRUN_ASSIGN(header.n_keys, read_count(in, "key count", kMaxKeys));
  LCRUN_TRY(check_count_fits(in, "tensor count", tensors_at, header.n_tensors, kMinInfoBytes));
  LCRUN_TRY(check_count_fits(in, "key count", keys_at, header.n_keys, kMinPairBytes));
  return header;
}

// ---- keys

Status check_bools(const ByteReader& in, const Item& item, std::span<const std::byte> bytes) {
  const auto bad = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
  if (bad == bytes.end()) return {};
  const auto offset = static_cast<uint64_t>(&*bad - in.bytes().data());
  return in.fail_at(offset, item.field("bool"), format("{}", static_cast<int>(*bad)), "0 or 1");
}

Result<uint64_t> read_array_count(ByteReader& in, const Item& item, ValueType element_type) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint64_t count, read<uint64_t>(in, item, "array count"));
  if (count > kMaxLength) {
    return in.fail_at(start, item.field("array count"), format("{}", count), format("at most {}", kMaxLength));
  }
  const uint64_t least = element_type == ValueType::kString ? sizeof(uint64_t) : scalar_bytes(element_type);
  if (count > in.remaining() / least) {
    return in.fail_at(start, item.field("array count"), format("{}", count),
                      format("at most {}, for the {} bytes left in the file", in.remaining() / least, in.remaining()));
  }
  return count;
}

// Element type, count and elements; `value` gets them.
Status read_array(ByteReader& in, const Item& item, KeyValue& value) {
  const uint64_t type_at = in.offset();
  LCRUN_ASSIGN(value.element_type, read_value_type(in, item, "element type"));
  if (value.element_type == ValueType::kArray) {
    return unsupported(in.fail_at(type_at, item.field("element type"), "an array of arrays", "scalars or strings"));
  }
  LCRUN_ASSIGN(value.count, read_array_count(in, item, value.element_type));
  const uint64_t first = in.offset();
  if (value.element_type == ValueType::kString) {
    for (uint64_t i = 0; i < value.count; ++i) {
      LCRUN_TRY(read_string(in, item, "string of an array", kMaxLength));
    }
  } else {
    LCRUN_TRY(in.skip("array", value.count * scalar_bytes(value.element_type)));
  }
  value.payload = in.bytes().subspan(static_cast<size_t>(first), static_cast<size_t>(in.offset() - first));
  if (value.element_type == ValueType::kBool) LCRUN_TRY(check_bools(in, item, value.payload));
  return {};
}

Status read_scalar(ByteReader& in, const Item& item, KeyValue& value) {
  const uint64_t size = scalar_bytes(value.type);
  if (in.remaining() < size) {
    return in.fail(item.field("value"), format("{} bytes left", in.remaining()), format("{} bytes", size));
  }
  LCRUN_ASSIGN(value.payload, in.read_bytes("value", size));
  if (value.type == ValueType::kBool) LCRUN_TRY(check_bools(in, item, value.payload));
  return {};
}

Result<KeyValue> read_pair(ByteReader& in, uint64_t number) {
  KeyValue value;
  Item item{"key", number, {}};
  LCRUN_ASSIGN(value.key, read_name(in, item, "name", kMaxKeyBytes));
  item.name = value.key;
  value.offset = in.offset();
  LCRUN_ASSIGN(value.type, read_value_type(in, item, "value type"));
  if (value.type == ValueType::kArray) {
    LCRUN_TRY(read_array(in, item, value));
  } else if (value.type == ValueType::kString) {
    LCRUN_ASSIGN(const std::string_view text, read_string(in, item, "string", kMaxLength));
    value.payload = std::as_bytes(std::span(text));
  } else {
    LCRUN_TRY(read_scalar(in, item, value));
  }
  value.encoded =
      in.bytes().subspan(static_cast<size_t>(value.offset), static_cast<size_t>(in.offset() - value.offset));
  return value;
}

Result<std::vector<KeyValue>> read_pairs(ByteReader& in, uint64_t count) {
  std::vector<KeyValue> values;  // grows with what is found, not with what is announced
  for (uint64_t i = 0; i < count; ++i) {
    LCRUN_ASSIGN(KeyValue value, read_pair(in, i));
    values.push_back(value);
  }
  return values;
}

Status check_no_duplicate_key(const ByteReader& in, const MetadataTable& table) {
  const KeyValue* twice = table.find_duplicate();
  if (twice == nullptr) return {};
  return in.fail_at(twice->offset, format("key {}", quoted(twice->key)), "it a second time", "each key once");
}

Result<uint64_t> find_alignment(const ByteReader& in, const MetadataTable& table) {
  const KeyValue* value = table.find(kKeyAlignment);
  if (value == nullptr) return uint64_t{kDefaultAlignment};
  if (value->type != ValueType::kU32) {
    return in.fail_at(value->offset, kKeyAlignment, value_type_name(value->type), "u32");
  }
  uint32_t alignment = 0;
  std::memcpy(&alignment, value->payload.data(), sizeof(alignment));
  const bool power_of_two = alignment != 0 && (alignment & (alignment - 1)) == 0;
  if (!power_of_two || alignment < kMinAlignment || alignment > kMaxAlignment) {
    return in.fail_at(value->offset, kKeyAlignment, format("{}", alignment),
                      format("a power of two of {} to {}", kMinAlignment, kMaxAlignment));
  }
  return uint64_t{alignment};
}

// ---- tensors

Status read_shape(ByteReader& in, const Item& item, TensorView& view) {
  const uint64_t dims_at = in.offset();
  LCRUN_ASSIGN(const uint32_t n_dims, read<uint32_t>(in, item, "dimension count"));
  if (n_dims == 0 || n_dims > kMaxDims) {
    return in.fail_at(dims_at, item.field("dimension count"), format("{}", n_dims), "1 to 4");
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < n_dims; ++i) {
    const uint64_t start = in.offset();
    LCRUN_ASSIGN(const uint64_t length, read<uint64_t>(in, item, "dimension"));
    if (length == 0 || length > kMaxInt64) {
      return in.fail_at(start, item.field("dimension"), format("{}", static_cast<int64_t>(length)), "at least 1");
    }
    if (__builtin_mul_overflow(elements, length, &elements) || elements > kMaxInt64) {
      return in.fail_at(start, item.field("dimension"), format("{}, a product beyond 2^63", length),
                        "a tensor that can be addressed");
    }
    view.ne[i] = static_cast<int64_t>(length);
  }
  return {};
}

Result<const quant::TypeInfo*> read_tensor_type(ByteReader& in, const Item& item) {
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(const uint32_t id, read<uint32_t>(in, item, "type"));
  const quant::TypeInfo* type = quant::find_type(static_cast<DType>(id));
  if (type != nullptr && !type->removed) return type;
  if (type != nullptr) {
    return unsupported(in.fail_at(start, item.field("type"),
                                  format("{} (type {}), which was removed from GGUF", type->name, id),
                                  "a type in use: re-quantise the model from its source"));
  }
  if (id > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
    return in.fail_at(start, item.field("type"), format("{}", static_cast<int32_t>(id)), "a type of 0 or more");
  }
  return unsupported(in.fail_at(start, item.field("type"), format("type {}, unknown here", id),
                                "a known type: re-quantise the model, or use a newer version of this program"));
}

// row_bytes and size_bytes of a checked shape.
Status size_tensor(const ByteReader& in, const Item& item, uint64_t at, const quant::TypeInfo& type, TensorView& view) {
  view.dtype = type.dtype;
  if (view.cols() % type.block_size != 0) {
    return in.fail_at(at, item.field("row length"), format("{}", view.cols()),
                      format("a multiple of {}, the block of {}", type.block_size, type.name));
  }
  const auto blocks = static_cast<uint64_t>(view.cols() / type.block_size);
  const bool wraps = __builtin_mul_overflow(blocks, static_cast<uint64_t>(type.block_bytes), &view.row_bytes) ||
                     __builtin_mul_overflow(view.row_bytes, static_cast<uint64_t>(view.rows()), &view.size_bytes);
  if (wraps || view.size_bytes > kMaxInt64) {
    return in.fail_at(at, item.field("size"), "more than 2^63 bytes", "a tensor that can be addressed");
  }
  return {};
}

// Reads one entry; `next` is the offset that it must have, and becomes that of its successor.
Result<TensorEntry> read_tensor(ByteReader& in, uint64_t number, uint64_t alignment, uint64_t& next) {
  TensorEntry entry;
  Item item{"tensor", number, {}};
  const uint64_t start = in.offset();
  LCRUN_ASSIGN(entry.name, read_name(in, item, "name", kMaxNameBytes));
  item.name = entry.name;
  LCRUN_TRY(read_shape(in, item, entry.view));
  LCRUN_ASSIGN(const quant::TypeInfo* type, read_tensor_type(in, item));
  LCRUN_TRY(size_tensor(in, item, start, *type, entry.view));
  const uint64_t offset_at = in.offset();
  LCRUN_ASSIGN(entry.offset, read<uint64_t>(in, item, "offset"));
  if (entry.offset != next) {
    return in.fail_at(offset_at, item.field("offset"), format("{}", entry.offset),
                      format("{}, the end of the tensor before it, padded", next));
  }
  // Neither sum wraps: next, size and alignment are below 2^63.
  if (entry.offset + entry.view.size_bytes > kMaxInt64 - alignment) {
    return in.fail_at(start, item.field("size"), format("{} bytes", entry.view.size_bytes),
                      "a sum of sizes below 2^63");
  }
  next = pad_up(entry.offset + entry.view.size_bytes, alignment);
  return entry;
}

Result<std::vector<TensorEntry>> read_directory(ByteReader& in, uint64_t count, uint64_t alignment) {
  std::vector<TensorEntry> tensors;  // grows with what is found, not with what is announced
  uint64_t next = 0;
  for (uint64_t i = 0; i < count; ++i) {
    LCRUN_ASSIGN(const TensorEntry entry, read_tensor(in, i, alignment, next));
    tensors.push_back(entry);
  }
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorEntry& entry : tensors) names.push_back(entry.name);
  const int64_t twice = NameIndex(names).find_duplicate();
  if (twice >= 0) {
    const std::string_view name = names[static_cast<size_t>(twice)];
    const auto at = static_cast<uint64_t>(reinterpret_cast<const std::byte*>(name.data()) - in.bytes().data());
    return in.fail_at(at, format("tensor {} {}", twice, quoted(name)), "the name a second time", "each name once");
  }
  return tensors;
}

// Points the views at their data, offsets from the start of the file.
Status place_tensors(const ByteReader& in, FilePart& part) {
  for (size_t i = 0; i < part.tensors.size(); ++i) {
    TensorEntry& entry = part.tensors[i];
    const Item item{"tensor", i, entry.name};
    entry.offset += part.data_offset;  // both below 2^63
    if (entry.offset + entry.view.size_bytes > in.bytes().size()) {
      return in.fail_at(entry.offset, item.field("data"), format("a file of {} bytes", in.bytes().size()),
                        format("{} bytes: the file is cut", entry.offset + entry.view.size_bytes));
    }
    entry.view.data = in.bytes().data() + entry.offset;
  }
  return {};
}

}  // namespace

Result<FilePart> read_part(std::span<const std::byte> bytes, const std::string& name) {
  ByteReader in(bytes, printable(name, kShownPath), Code::kBadModel);
  FilePart part;
  LCRUN_ASSIGN(const Header header, read_header(in));
  part.version = header.version;
  LCRUN_ASSIGN(auto values, read_pairs(in, header.n_keys));
  part.meta = std::make_unique<const MetadataTable>(name, std::move(values));
  LCRUN_TRY(check_no_duplicate_key(in, *part.meta));
  LCRUN_ASSIGN(const uint64_t alignment, find_alignment(in, *part.meta));
  LCRUN_ASSIGN(part.tensors, read_directory(in, header.n_tensors, alignment));
  part.data_offset = pad_up(in.offset(), alignment);
  LCRUN_TRY(place_tensors(in, part));
  return part;
}

}  // namespace lcrun::ggufish
