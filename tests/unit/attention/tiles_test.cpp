// Plans that differ from tile to tile, and keys that count as standing elsewhere.
#include <catch2/catch.hpp>
#include <vector>

#include "src/attention/selector.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::KvLayout;
using attention::PlanTile;
using attention::Segment;

namespace {

AttnParams make_params(DType type) {
  AttnParams params;
  params.layout = KvLayout{2, 32, 32, type, type};
  params.n_heads = 6;
  params.scale = 0.3F;
  return params;
}

std::vector<double> frequencies(int64_t n_rot) {
  std::vector<double> out;
  for (int64_t i = 0; i < n_rot / 2; ++i) out.push_back(std::pow(10000.0, -2.0 * double(i) / double(n_rot)));
  return out;
}

std::vector<float> run_tiles(const AttnParams& params, storage::Region& region, const std::vector<PlanTile>& tiles,
                             int64_t pos0, std::vector<float> q, int n_threads = 1) {
  const int64_t width = params.n_heads * params.layout.k_dim;
  const int64_t n = static_cast<int64_t>(q.size()) / width;
  std::vector<float> out(static_cast<size_t>(n * params.n_heads * params.layout.v_dim), NAN);
  const MatView o{out.data(), n, params.n_heads * params.layout.v_dim, params.n_heads * params.layout.v_dim};
  Workspace scratch;
  REQUIRE(scratch.reserve(attention::tile_scratch_bytes(params, n, n_threads)).has_value());
  REQUIRE(attention::execute(params, region, attention::TilePlan{tiles}, pos0, {q.data(), n, width, width}, o, scratch,
                             n_threads)
              .has_value());
  return out;
}

const DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};

}  // namespace

TEST_CASE("tiles that read everything have the bits of dense attention, however they are cut", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType type : kTypes) {
      const AttnParams params = make_params(type);
      AttentionCache cache(params.layout, 700, 21);
      cache.reserve_until(params.layout, 700);
      const int64_t width = params.n_heads * params.layout.k_dim;
      const auto q = Random(22).row(130 * width, -2, 2);
      const auto dense = attention_fast(params, cache.region, {}, 570, q, 2);
      const std::vector<Segment> all{{0, 700}};
      CHECK(run_tiles(params, cache.region, {{0, 130, -1, all}}, 570, q) == dense);
      CHECK(run_tiles(params, cache.region, {{0, 6, -1, all}, {6, 64, -1, all}, {70, 60, -1, all}}, 570, q, 2) ==
            dense);
      const std::vector<Segment> parts{{0, 256}, {256, 512}, {512, 700}};
      CHECK(run_tiles(params, cache.region, {{0, 130, 1, parts}, {0, 130, 0, all}}, 570, q, 3) == dense);
    }
  });
}

TEST_CASE("tiles read their own segments as the reference says", "[attention]") {
  for_each_isa([](const std::string&) {
    const AttnParams params = make_params(DType::kF32);
    AttentionCache cache(params.layout, 900, 31);
    cache.reserve_until(params.layout, 900);
    const int64_t width = params.n_heads * params.layout.k_dim;
    const auto q = Random(32).row(100 * width, -2, 2);
    const std::vector<Segment> first{{0, 64}, {192, 256}, {640, 900}}, second{{64, 130}, {800, 900}};
    const auto found = run_tiles(params, cache.region, {{0, 40, -1, first}, {40, 60, -1, second}}, 800, q, 2);
    const std::vector<float> q1(q.begin(), q.begin() + 40 * width), q2(q.begin() + 40 * width, q.end());
    auto wanted = attention_reference(params, cache.region, first, 800, q1);
    const auto rest = attention_reference(params, cache.region, second, 840, q2);
    wanted.insert(wanted.end(), rest.begin(), rest.end());
    CHECK(worst_error(found, wanted) < 1e-5);
  });
}

TEST_CASE("a shifted segment counts as standing that much later", "[attention]") {
  const auto frequency = frequencies(32);
  for (const bool neox : {false, true}) {
    for (const DType type : {DType::kF32, DType::kQ8_0, DType::kQ4_0}) {
      AttnParams params = make_params(type);
      params.rotary = {frequency, neox};
      const int64_t k_width = params.layout.n_kv_heads * params.layout.k_dim;
      // The same keys at the front and, rotated for it, where the plan says that they stand.
      AttentionCache far(params.layout, 512, 41), near(params.layout, 512, 41);
      for (int64_t row = 0; row < 512; ++row) {
        attention::turn(params.rotary, row, far.k.data() + row * k_width, params.layout.n_kv_heads, 32);
        attention::turn(params.rotary, row < 64 ? row + 320 : row, near.k.data() + row * k_width,
                        params.layout.n_kv_heads, 32);
      }
      far.reserve_until(params.layout, 512);
      near.reserve_until(params.layout, 512);
      const auto q = Random(42).row(8 * params.n_heads * 32, -2, 2);
      const std::vector<Segment> shifted{{0, 64, 320}, {448, 512}}, plain{{0, 64}, {448, 512}};
      const auto found = run_tiles(params, far.region, {{0, 8, -1, shifted}}, 504, q);
      const auto wanted = run_tiles(params, near.region, {{0, 8, -1, plain}}, 504, q);
      const std::vector<double> exact(wanted.begin(), wanted.end());
      CHECK(worst_error(found, exact) < (type == DType::kF32 ? 1e-5 : type == DType::kQ8_0 ? 0.04 : 0.5));
      const auto unshifted = run_tiles(params, far.region, {{0, 8, -1, plain}}, 504, q);
      CHECK(worst_error(unshifted, exact) > 0.7);
    }
  }
}

TEST_CASE("rows left out of the middle are as if they had never been, in double precision", "[attention]") {
  const auto frequency = frequencies(32);
  for_each_isa([&](const std::string&) {
    for (const DType type : kTypes) {
      // Gaps within a span, of whole spans, and wider than all that is left.
      for (const int64_t gone : {128, 320, 1088, 4032}) {
        AttnParams params = make_params(type);
        params.rotary = {frequency, false};
        const int64_t end = gone + 300, k_width = params.layout.n_kv_heads * params.layout.k_dim;
        AttentionCache cache(params.layout, end, 61);
        for (int64_t row = 0; row < end; ++row) {
          attention::turn(params.rotary, row, cache.k.data() + row * k_width, params.layout.n_kv_heads, 32);
        }
        cache.reserve_until(params.layout, end);
        // The twin has what the cache gives back, the first rows turned to where they count as standing.
        AttnParams exact = params;
        exact.layout.k_type = exact.layout.v_type = DType::kF32;
        AttentionCache twin(exact.layout, end, 62);
        for (int64_t row = 0; row < end; ++row) {
          float* key = twin.k.data() + row * k_width;
          attention::decode_kv(params.layout, cache.region.block(row / 64), row % 64, key,
                               twin.v.data() + row * k_width, row / 64);
          if (row < 64) attention::turn(params.rotary, gone - 64, key, params.layout.n_kv_heads, 32);
        }
        twin.reserve_until(exact.layout, end);
        const std::vector<Segment> kept{{0, 64, gone - 64}, {gone, end}}, rows{{0, 64}, {gone, end}};
        for (const int64_t n : {1, 44}) {
          const auto q = Random(63).row(n * params.n_heads * 32, -2, 2);
          const auto wanted = attention_reference(exact, twin.region, rows, end - n, q);
          CAPTURE(static_cast<int>(type), gone, n);
          const auto found = attention_fast(params, cache.region, kept, end - n, q, 3);
          CHECK(worst_error(found, wanted) < 2e-3);
          CHECK(found == attention_fast(params, cache.region, kept, end - n, q, 1));
        }
      }
    }
  });
}

TEST_CASE("moving all keys and the query by the same distance changes nothing", "[attention]") {
  const auto frequency = frequencies(32);
  AttnParams params = make_params(DType::kF32);
  params.rotary = {frequency, false};
  AttentionCache cache(params.layout, 300, 51);
  cache.reserve_until(params.layout, 300);
  auto q = Random(52).row(4 * params.n_heads * 32, -2, 2);
  const std::vector<Segment> plain{{0, 300}}, moved{{0, 300, 1 << 20}};
  const auto wanted = run_tiles(params, cache.region, {{0, 4, -1, plain}}, 296, q);
  attention::turn(params.rotary, 1 << 20, q.data(), 4 * params.n_heads, 32);
  const auto found = run_tiles(params, cache.region, {{0, 4, -1, moved}}, 296, q);
  CHECK(worst_error(found, std::vector<double>(wanted.begin(), wanted.end())) < 1e-5);
}

TEST_CASE("a stream reads sinks and window, the sinks right before the window", "[attention]") {
  const attention::Reading reading{attention::Role::kStream, 64, 128, {attention::Positions::kRelay}, {}, 0,
                                   attention::Scope::kLayer};
  for (const int64_t pos0 : {0, 60, 190, 250, 256, 1000}) {
    Workspace scratch;
    REQUIRE(scratch.reserve(1 << 16).has_value());
    const auto plan = attention::plan_stream(reading, pos0, 150, scratch);
    int64_t next = 0;
    for (const PlanTile& tile : plan.tiles) {
      CHECK(tile.first == next);
      next += tile.count;
      const int64_t pos = pos0 + tile.first;
      const int64_t begin = pos / 64 * 64 - 128;
      CHECK(pos / 64 == (pos + tile.count - 1) / 64);
      if (begin <= 64) {
        REQUIRE(tile.segments.size() == 1);
        CHECK(tile.segments[0].first_row == 0);
        continue;
      }
      REQUIRE(tile.segments.size() == 2);
      CHECK(tile.segments[0].end_row == 64);
      CHECK(tile.segments[0].shift == begin - 64);
      CHECK(tile.segments[1].first_row == begin);
      CHECK(tile.segments[1].shift == 0);
    }
    CHECK(next == 150);
  }
}
