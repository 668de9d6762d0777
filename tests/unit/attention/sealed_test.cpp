// Attention over sealed caches: a query reads its own block as it was given, earlier ones rounded.
#include <catch2/catch.hpp>
#include <vector>

#include "src/attention/rotation.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::KvLayout;

namespace {

constexpr int64_t kTokens = 300;

AttnParams make_params(DType k, DType v) {
  AttnParams params;
  params.layout = KvLayout{2, 32, 64, k, v};
  params.n_heads = 6;
  params.scale = 0.3F;
  return params;
}

// A sealed layer as a mixer keeps it.
struct SealedCache {
  KvLayout layout;
  storage::Region sealed, open;
  std::vector<float> k, v;

  explicit SealedCache(const KvLayout& form)
      : layout(form),
        sealed({storage::RegionKind::kAppend, "sealed", form.block_bytes(), 0}),
        open({storage::RegionKind::kRing, "open", form.open_form().block_bytes(), 0}) {
    Random random(17);
    k = random.row(kTokens * 2 * 32, -2, 2);
    v = random.row(kTokens * 2 * 64, -2, 2);
    for (size_t i = 0; i < k.size(); ++i) k[i] += i % 32 < 5 ? 4.0F : 0.0F;
  }
  // Takes in rows up to `end`.
  void append(int64_t end) {
    const int64_t first = sealed.rows();
    REQUIRE(sealed.reserve_rows(end - first).has_value());
    REQUIRE(open.reserve_rows(end - first).has_value());
    for (int64_t row = first; row < end; ++row) {
      attention::encode_open(layout, k.data() + row * 2 * 32, v.data() + row * 2 * 64, row % 64, open.block(row / 64));
    }
    for (int64_t block = first / 64; block < end / 64; ++block) {
      attention::seal_kv(layout, block, open.block(block), sealed.block(block));
    }
  }
  void commit(int64_t n) {
    sealed.commit_rows(n);
    open.commit_rows(n);
  }
  // What a query at `pos` sees of row `row`, not rotated.
  void read(int64_t pos, int64_t row, float* key, float* value) const {
    const int64_t block = row / 64;
    if (block < pos / 64) return attention::decode_kv(layout, sealed.block(block), row % 64, key, value, block);
    attention::decode_kv(layout.open_form(), open.block(block), row % 64, key, value);
    for (int64_t head = 0; head < 2; ++head) {
      if (attention::is_rotated(layout.k_type)) attention::rotate(key + head * 32, 32);
      if (attention::is_rotated(layout.v_type)) attention::rotate(value + head * 64, 64);
    }
  }
};

std::vector<float> queries(const AttnParams& params) { return Random(12).row(kTokens * params.n_heads * 32, -2, 2); }

template <class Next>
std::vector<float> run_batches(AttnParams params, int n_threads, Next next) {
  SealedCache cache(params.layout);
  params.open = &cache.open;
  const int64_t width = params.n_heads * params.layout.k_dim;
  const std::vector<float> q = queries(params);
  std::vector<float> out;
  for (int64_t pos = 0; pos < kTokens;) {
    const int64_t count = std::min<int64_t>(next(), kTokens - pos);
    cache.append(pos + count);
    const std::vector<float> part(q.begin() + pos * width, q.begin() + (pos + count) * width);
    const auto o = attention_fast(params, cache.sealed, {}, pos, part, n_threads);
    out.insert(out.end(), o.begin(), o.end());
    cache.commit(count);
    pos += count;
  }
  return out;
}

const DType kPairs[][2] = {{DType::kQ4_0, DType::kQ4_0},
                           {DType::kQ4_0, DType::kF16},
                           {DType::kF16, DType::kQ4_0},
                           {DType::kQ8_0, DType::kQ4_0}};

}  // namespace

TEST_CASE("any split of a prompt over sealed blocks gives the same bits as one batch", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const auto& pair : kPairs) {
      const AttnParams params = make_params(pair[0], pair[1]);
      const auto whole = run_batches(params, 1, [] { return kTokens; });
      REQUIRE(run_batches(params, 1, [] { return 1; }) == whole);
      REQUIRE(run_batches(params, 3, [] { return 64; }) == whole);
      for (uint64_t seed = 0; seed < 4; ++seed) {
        Random random(seed);
        REQUIRE(run_batches(params, 2, [&] { return 1 + random.below(seed % 2 == 0 ? 150 : 12); }) == whole);
      }
    }
  });
}

TEST_CASE("attention over sealed blocks is right for what each query sees", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const auto& pair : kPairs) {
      AttnParams params = make_params(pair[0], pair[1]);
      SealedCache cache(params.layout);
      cache.append(kTokens);
      const auto found = run_batches(params, 1, [] { return kTokens; });
      const auto q = queries(params);
      const int64_t width = params.n_heads * 32;
      for (const int64_t pos : {int64_t{0}, int64_t{63}, int64_t{64}, int64_t{100}, int64_t{191}, int64_t{299}}) {
        // The same rows as a cache of floats.
        AttnParams plain = params;
        plain.layout.k_type = plain.layout.v_type = DType::kF32;
        AttentionCache floats(plain.layout, pos + 1, 1);
        for (int64_t row = 0; row <= pos; ++row) {
          cache.read(pos, row, floats.k.data() + row * 2 * 32, floats.v.data() + row * 2 * 64);
        }
        floats.reserve_until(plain.layout, pos + 1);
        const std::vector<float> query(q.begin() + pos * width, q.begin() + (pos + 1) * width);
        const auto wanted = attention_reference(plain, floats.region, {{0, pos + 1}}, pos, query);
        const std::vector<float> result(found.begin() + pos * 6 * 64, found.begin() + (pos + 1) * 6 * 64);
        CAPTURE(pos, static_cast<int>(pair[0]), static_cast<int>(pair[1]));
        // Codes of 16 bits for queries and weights (attend_test.cpp), with keys that are twice as large.
        REQUIRE(worst_error(result, wanted) < 8e-4);
      }
    }
  });
}
