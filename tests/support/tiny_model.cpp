// Editing, filling and encoding of tiny recipes.
#include "tests/support/tiny_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <stdexcept>

#include "ggufish/writer.hpp"
#include "quant/format.hpp"

namespace lcrun::testing {
namespace {

template <class... Ts>
struct Overload : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overload(Ts...) -> Overload<Ts...>;

void write_key(ggufish::Writer& writer, const TinyKey& key) {
  const std::string& name = key.key;
  std::visit(Overload{
                 [&](uint32_t v) { writer.add_u32(name, v); },
                 [&](int32_t v) { writer.add_i32(name, v); },
                 [&](uint64_t v) { writer.add_u64(name, v); },
                 [&](float v) { writer.add_f32(name, v); },
                 [&](bool v) { writer.add_bool(name, v); },
                 [&](const std::string& v) { writer.add_string(name, v); },
                 [&](const std::vector<std::string>& v) { writer.add_strings(name, v); },
                 [&](const std::vector<int32_t>& v) { writer.add_i32s(name, v); },
                 [&](const std::vector<uint32_t>& v) { writer.add_u32s(name, v); },
                 [&](const std::vector<float>& v) { writer.add_f32s(name, v); },
                 [&](const std::vector<bool>& v) {
                   const auto flags = std::make_unique<bool[]>(v.size());
                   std::copy(v.begin(), v.end(), flags.get());
                   writer.add_bools(name, {flags.get(), v.size()});
                 },
             },
             key.value);
}

uint64_t name_seed(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ULL ^ (seed * 0x9E3779B97F4A7C15ULL);  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ULL;
  return hash;
}

// Random MXFP4 blocks (17 bytes: the exponent of the scale, then 32 four-bit floats) of the spread wanted. The format
// is only read here, so there is nothing that would quantise to it.
std::vector<std::byte> fill_mxfp4(int64_t n, double spread, TinyRandom& random) {
  constexpr double kSpreadOfCodes = 2.9;  // root mean square of +-{0, 0.5, 1, 1.5, 2, 3, 4, 6}
  const auto exponent = static_cast<uint8_t>(127 + std::lround(std::log2(spread / kSpreadOfCodes)));
  std::vector<std::byte> bytes;
  for (int64_t block = 0; block < n / 32; ++block) {
    bytes.push_back(std::byte{exponent});
    for (int i = 0; i < 16; ++i) bytes.push_back(static_cast<std::byte>(random.next() & 0xFFU));
  }
  return bytes;
}

// All values of a tensor in its format.
Result<std::vector<std::byte>> fill(const TinyTensor& tensor, uint64_t seed) {
  int64_t n = 1;
  for (const int64_t dim : tensor.ne) n *= dim;
  TinyRandom random(name_seed(seed, tensor.name));
  if (tensor.dtype == DType::kMXFP4 && tensor.ne[0] % 32 == 0) return fill_mxfp4(n, tensor.spread, random);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    value = static_cast<float>(tensor.mean + tensor.spread * (tensor.uniform ? random.uniform() : random.normal()));
  }
  if (tensor.dtype == DType::kF32 || tensor.dtype == DType::kI32) {  // as integers: nonsense of the right size
    std::vector<std::byte> bytes(values.size() * sizeof(float));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  const quant::TypeInfo* type = quant::find_type(tensor.dtype);
  const quant::QuantOps* ops = quant::find_ops(tensor.dtype);
  if (type == nullptr || ops == nullptr || ops->quantize == nullptr || tensor.ne[0] % type->block_size != 0) {
    return quant::unsupported_type(tensor.name, tensor.dtype);
  }
  const uint64_t row_bytes = quant::row_bytes(*type, tensor.ne[0]);
  const int64_t rows = n / tensor.ne[0];
  std::vector<std::byte> bytes(row_bytes * static_cast<uint64_t>(rows));
  for (int64_t row = 0; row < rows; ++row) {
    ops->quantize(values.data() + row * tensor.ne[0], tensor.ne[0],
                  bytes.data() + row_bytes * static_cast<uint64_t>(row));
  }
  return bytes;
}

// The bytes and the file that looks into them.
struct OwnedFile {
  std::vector<std::byte> bytes;
  std::shared_ptr<const ggufish::ModelFile> file;
};

}  // namespace

TinyKey* TinyRecipe::find_key(std::string_view key) {
  const auto it = std::find_if(keys.begin(), keys.end(), [&](const TinyKey& k) { return k.key == key; });
  return it == keys.end() ? nullptr : &*it;
}

TinyTensor* TinyRecipe::find_tensor(std::string_view name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(), [&](const TinyTensor& t) { return t.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

void TinyRecipe::set_key(std::string_view key, TinyValue value) {
  if (TinyKey* found = find_key(key); found != nullptr) {
    found->value = std::move(value);
  } else {
    keys.push_back({std::string(key), std::move(value)});
  }
}

void TinyRecipe::drop_key(std::string_view key) {
  std::erase_if(keys, [&](const TinyKey& k) { return k.key == key; });
}

void TinyRecipe::drop_tensor(std::string_view name) {
  std::erase_if(tensors, [&](const TinyTensor& t) { return t.name == name; });
}

Result<std::vector<std::byte>> encode_tiny(const TinyRecipe& recipe) {
  ggufish::Writer writer;
  for (const TinyKey& key : recipe.keys) write_key(writer, key);
  for (const TinyTensor& tensor : recipe.tensors) {
    LCRUN_ASSIGN(std::vector<std::byte> bytes, fill(tensor, recipe.seed));
    writer.add_tensor(tensor.name, tensor.dtype, tensor.ne, std::move(bytes));
  }
  return writer.finish();
}

std::shared_ptr<const ggufish::ModelFile> open_tiny(std::vector<std::byte> bytes) {
  auto owned = std::make_shared<OwnedFile>();
  owned->bytes = std::move(bytes);
  auto file = ggufish::ModelFile::parse(owned->bytes, "tiny.gguf");
  if (!file) throw std::runtime_error(file.error().message);
  owned->file = std::move(file).value();
  return {owned, owned->file.get()};
}

std::shared_ptr<const ggufish::ModelFile> open_tiny(const TinyRecipe& recipe) {
  auto bytes = encode_tiny(recipe);
  if (!bytes) throw std::runtime_error(bytes.error().message);
  return open_tiny(std::move(bytes).value());
}

uint64_t TinyRandom::next() {
  state_ += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state_;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

double TinyRandom::uniform() { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }

double TinyRandom::normal() {  // Box and Muller
  const double u = 1.0 - uniform();
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

std::vector<int32_t> random_tokens(int64_t n, int64_t vocab, uint64_t seed) {
  TinyRandom random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(vocab));
  return tokens;
}

}  // namespace lcrun::testing
