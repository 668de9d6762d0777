// Tiny random model files of every architecture: small enough for a double-precision twin, whole enough for the
// command line (they carry a byte-level BPE vocabulary of 300 tokens).
//
// A recipe is plain data (keys and tensors) that a test may damage before it is encoded. Values come from a fixed
// generator seeded by the recipe's seed and the tensor's name, so dropping a tensor does not change the others.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::testing {

using TinyValue = std::variant<uint32_t, int32_t, uint64_t, float, bool, std::string, std::vector<std::string>,
                               std::vector<int32_t>, std::vector<uint32_t>, std::vector<float>, std::vector<bool>>;

struct TinyKey {
  std::string key;
  TinyValue value;
};

// Values of a tensor: mean + spread * N(0, 1), or uniform in [mean, mean + spread).
struct TinyTensor {
  std::string name;
  std::vector<int64_t> ne;  // GGUF order
  DType dtype = DType::kF32;
  double mean = 0.0;
  double spread = 1.0;
  bool uniform = false;
};

struct TinyRecipe {
  uint64_t seed = 1;
  std::vector<TinyKey> keys;
  std::vector<TinyTensor> tensors;

  TinyKey* find_key(std::string_view key);
  TinyTensor* find_tensor(std::string_view name);
  void set_key(std::string_view key, TinyValue value);  // replaces or adds
  void drop_key(std::string_view key);
  void drop_tensor(std::string_view name);
};

enum class TinyRope : uint8_t { kPlain, kLinear, kYarn, kFactors };

struct TinyOptions {
  std::string arch = "llama";
  uint64_t seed = 1;
  int64_t n_layers = 4;
  int64_t d_model = 64;
  int64_t n_heads = 4;
  int64_t n_kv_heads = 2;
  int64_t head_dim = 16;
  int64_t d_ff = 96;
  int64_t window = 8;     // of architectures that have window layers
  int64_t n_experts = 4;  // of architectures with experts
  int64_t n_experts_used = 2;
  bool moe = false;           // experts where they are optional (llama)
  bool extra_biases = false;  // biases where they are optional
  bool tied_output = false;   // drops output.weight where it is optional
  TinyRope rope = TinyRope::kPlain;
  DType matrix_type = DType::kF32;  // of matrices that quantisers touch
  DType expert_type = DType::kF32;  // of expert matrices
};

// Names of all architectures there are recipes for.
std::vector<std::string> tiny_archs();
// Does the architecture route tokens to experts? keep a recurrent state?
bool tiny_has_experts(std::string_view arch);
bool tiny_is_recurrent(std::string_view arch);
bool tiny_has_window(std::string_view arch);

TinyRecipe tiny_recipe(const TinyOptions& options);

// Bytes of the file.
Result<std::vector<std::byte>> encode_tiny(const TinyRecipe& recipe);

// A parsed file that owns its bytes. Throws std::runtime_error (tests only) when it cannot be made.
std::shared_ptr<const ggufish::ModelFile> open_tiny(const TinyRecipe& recipe);
std::shared_ptr<const ggufish::ModelFile> open_tiny(std::vector<std::byte> bytes);

// The generator behind all of it: 64-bit splitmix.
class TinyRandom {
 public:
  explicit TinyRandom(uint64_t seed) : state_(seed) {}
  uint64_t next();
  double uniform();  // [0, 1)
  double normal();
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }

 private:
  uint64_t state_;
};

// Random token ids for a prompt.
std::vector<int32_t> random_tokens(int64_t n, int64_t vocab, uint64_t seed);

constexpr int64_t kTinyVocab = 300;

}  // namespace lcrun::testing
