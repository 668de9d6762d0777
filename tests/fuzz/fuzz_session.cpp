// Fuzz target: what follows the fingerprint of a session file -> a session of a tiny model.
//
// Size, fingerprint and checksum are made right here, so that the parser behind them is reached. Laws: no crash, no
// read outside the input, no allocation that the input does not pay for; a refusal is kBadSession; what was accepted
// has one state row for each token and can go on.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "src/base/bytes.hpp"
#include "src/base/check.hpp"
#include "src/runtime/session_file.hpp"
#include "tests/support/tiny_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;

// One layer with keys and values, another with a window: both kinds of blocks.
const model::Model& tiny() {
  static const std::shared_ptr<const model::Model> kModel = [] {
    testing::TinyOptions options;
    options.arch = "gemma2";
    options.n_layers = 2;
    options.n_kv_heads = 1;
    auto loaded = model::Model::load(testing::open_tiny(testing::tiny_recipe(options)), {});
    LCRUN_CHECK(loaded.has_value());
    return *loaded;
  }();
  return *kModel;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteWriter out;
  out.append("LCRUNSES", 8);
  out.write<uint32_t>(1);
  out.write<uint32_t>(0);
  out.write<uint64_t>(40 + size + 16);
  out.write(runtime::model_fingerprint(tiny().file()));
  out.append(data, size);
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits(out.bytes().data(), out.size()));
  out.append(hash.digest, sizeof(hash.digest));

  const model::CacheOptions cache;
  auto loaded = runtime::parse_session(out.bytes(), "fuzz", tiny(), cache);
  if (!loaded.has_value()) {
    LCRUN_CHECK(loaded.error().code == Code::kBadSession);
    LCRUN_CHECK(loaded.error().message.find("fuzz") == 0);
    return 0;
  }
  LCRUN_CHECK(loaded->state.tokens() == static_cast<int64_t>(loaded->tokens.size()));
  LCRUN_CHECK(loaded->state.memory_bytes() <= size + 65536);
  static model::Step step = std::move(tiny().plan({cache, 1, 1, 0, nullptr})).value();
  const model::Token next = 7;
  LCRUN_CHECK(tiny().forward({&next, 1}, loaded->state, step).has_value());
  return 0;
}
