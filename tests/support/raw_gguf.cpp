#include "tests/support/raw_gguf.hpp"

namespace lcrun::test {
namespace {

uint64_t padded(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

// Collects bytes and where each field begins.
struct Fields {
  Bytes out;
  std::vector<size_t>* boundaries;

  void begin() {
    if (boundaries != nullptr) boundaries->push_back(out.size());
  }
  template <class T>
  void number(T value) {
    begin();
    put(out, value);
  }
  void name(const std::string& text, std::optional<uint64_t> length) {
    number(length.value_or(text.size()));
    begin();
    put_text(out, text);
  }
};

}  // namespace

void put_text(Bytes& out, std::string_view text) {
  for (const char c : text) out.push_back(static_cast<std::byte>(c));
}

void put_string(Bytes& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  put_text(out, text);
}

Bytes string_value(std::string_view text) {
  Bytes out;
  put_string(out, text);
  return out;
}

Bytes array_value(uint32_t element_type, uint64_t count, const Bytes& elements) {
  Bytes out;
  put(out, element_type);
  put(out, count);
  for (const std::byte byte : elements) out.push_back(byte);
  return out;
}

Bytes RawFile::encode(std::vector<size_t>* boundaries) const {
  Fields fields{{}, boundaries};
  fields.begin();
  put_text(fields.out, magic);
  fields.number(version);
  fields.number(n_tensors.value_or(tensors.size()));
  fields.number(n_keys.value_or(keys.size()));
  for (const RawKey& key : keys) {
    fields.name(key.name, key.name_length);
    fields.number(key.type);
    fields.begin();
    for (const std::byte byte : key.value) fields.out.push_back(byte);
  }
  uint64_t offset = 0;
  uint64_t end_of_data = 0;
  for (const RawTensor& tensor : tensors) {
    fields.name(tensor.name, tensor.name_length);
    fields.number(tensor.n_dims.value_or(static_cast<uint32_t>(tensor.ne.size())));
    for (const uint64_t length : tensor.ne) fields.number(length);
    fields.number(tensor.type);
    fields.number(tensor.offset.value_or(offset));
    end_of_data = offset + tensor.size_bytes;
    offset = padded(end_of_data, alignment);
  }
  fields.begin();
  fields.out.resize(padded(fields.out.size(), alignment));
  fields.begin();
  for (const RawTensor& tensor : tensors) {
    if (data_bytes.has_value()) break;
    for (uint64_t i = 0; i < tensor.size_bytes; ++i) fields.out.push_back(static_cast<std::byte>(i * 29 + 3));
    fields.begin();
    fields.out.resize(padded(fields.out.size(), alignment));
    fields.begin();
  }
  fields.out.resize(fields.out.size() + data_bytes.value_or(0));
  return fields.out;
}

RawFile good_file() {
  RawFile file;
  Bytes words;
  put_string(words, "one");
  put_string(words, "");
  put_string(words, "three");
  Bytes numbers;
  for (int32_t i = 0; i < 5; ++i) put(numbers, i - 2);
  const Bytes flags{std::byte{1}, std::byte{0}, std::byte{1}};
  file.keys = {
      {"general.architecture", 8, string_value("llama"), {}},
      {"llama.block_count", 4, scalar_value<uint32_t>(2), {}},
      {"a.byte", 0, scalar_value<uint8_t>(7), {}},
      {"a.bool", 7, scalar_value<uint8_t>(1), {}},
      {"a.f64", 12, scalar_value<double>(0.25), {}},
      {"tokens", 9, array_value(8, 3, words), {}},
      {"numbers", 9, array_value(5, 5, numbers), {}},
      {"flags", 9, array_value(7, 3, flags), {}},
      {"nothing", 9, array_value(6, 0, {}), {}},
  };
  file.tensors = {
      {"token_embd.weight", {32, 3}, 8, 102, {}, {}, {}},  // Q8_0
      {"blk.0.norm", {5}, 0, 20, {}, {}, {}},              // F32
      {"cube", {2, 3, 2, 1}, 1, 24, {}, {}, {}},           // F16
  };
  return file;
}

}  // namespace lcrun::test
