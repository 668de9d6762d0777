// Indexes of blocks and the choices made by them, against scores computed from the keys in double precision.
#include "src/attention/selector.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "tests/support/indexed_cache.hpp"
#include "tests/support/isas.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnParams;
using attention::BlockIndex;
using attention::IndexKind;
using attention::IndexReduce;
using attention::KvLayout;
using attention::Positions;
using attention::Reading;
using attention::Role;
using attention::Scope;

TEST_CASE("every kind of index scores blocks as its definition in double precision does", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const IndexKind& kind : attention::index_kinds()) {
      for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
        if (type == DType::kQ4_0 && kind.row_tokens == 1) continue;  // rounded twice: see the choices below
        CAPTURE(kind.name, static_cast<int>(type));
        Indexed made(kind.name, type, 1280);
        made.build(1280);
        const int64_t pos = 1279;
        auto q = Random(6).row(made.params.n_heads * 32, -2, 2);
        Workspace memory;
        REQUIRE(memory.reserve(made.index->queries_bytes(6)).has_value());
        const auto queries = made.index->take_queries(6, memory);
        for (int64_t head = 0; head < 2; ++head) {
          made.index->turn_queries(q.data() + head * 3 * 32, pos, made.params.scale,
                                   made.index->part_of(queries, head * 3, 3));
        }
        std::vector<float> scratch(static_cast<size_t>(made.index->score_floats(3)));
        std::vector<float> scores(6 * 19);
        made.index->score(queries, *made.rows, 1, 20, scores.data(), 19, scratch.data());
        double worst = 0;
        for (int64_t row = 0; row < 6; ++row) {
          for (int64_t b = 1; b < 20; ++b) {
            const double wanted = made.reference(kind, q, row, pos, b);
            worst = std::max(worst, std::abs(wanted - double(scores[size_t(row * 19 + b - 1)])));
          }
        }
        CHECK(worst < (kind.dtype == DType::kQ4_0 ? 0.7 : type == DType::kQ4_0 ? 0.8 : 0.06));
      }
    }
  });
}

TEST_CASE("a block whose key answers the query is chosen, wherever it stands", "[attention]") {
  for (const char* kind : {"scan4", "scan8", "sub8", "mean"}) {
    for (const int64_t needle : {1, 7, 40, 59}) {
      Indexed made(kind, DType::kQ8_0, 4096);
      const int64_t pos = 4095, width = made.params.n_heads * 32;
      auto q = Random(9).row(width, -1, 1);
      // All keys of the block (so that a mean shows it) point where the query of head 4 will look from a near place.
      auto answer = std::vector<float>(q.begin() + 4 * 32, q.begin() + 5 * 32);
      for (int64_t row = needle * 64; row < needle * 64 + 64; ++row) {
        float* key = made.raw.data() + row * 64 + 32;
        std::copy(answer.begin(), answer.end(), key);
        attention::turn(made.params.rotary, 128 - row % 64, key, 1, 32);
        for (int64_t d = 0; d < 32; ++d) key[d] *= 4.0F;
      }
      made.build(4096);
      attention::turn(made.params.rotary, pos, q.data(), made.params.n_heads, 32);
      for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
        const auto plan = choose(made, selecting(kind, 4, scope), pos, q);
        CAPTURE(kind, needle);
        const auto blocks = blocks_in(plan.tiles.back(), 1, 61);
        CHECK(blocks.size() == 4);
        CHECK(std::count(blocks.begin(), blocks.end(), needle) == 1);
      }
    }
  }
}

TEST_CASE("chosen blocks are those with the largest share, and stand one behind the other", "[attention]") {
  for_each_isa([](const std::string&) {
    Indexed made("scan8", DType::kF32, 2048);
    made.build(2048);
    const int64_t pos = 2000, far_end = pos / 64 - 2;
    const auto q = Random(14).row(made.params.n_heads * 32, -2, 2);
    const IndexKind& kind = made.index->kind();
    std::vector<std::pair<double, int64_t>> share(static_cast<size_t>(far_end), {-1e300, 0});
    for (int64_t head = 0; head < made.params.n_heads; ++head) {
      std::vector<double> scores;
      double total = 0;
      for (int64_t b = 1; b < far_end; ++b) scores.push_back(made.reference(kind, q, head, pos, b));
      for (const double s : scores) total += std::exp(s);
      for (int64_t b = 1; b < far_end; ++b) {
        auto& entry = share[size_t(b)];
        entry = {std::max(entry.first, scores[size_t(b - 1)] - std::log(total)), b};
      }
    }
    std::sort(share.begin(), share.end(), std::greater<>());
    const auto plan = choose(made, selecting("scan8", 6), pos, q);
    const auto found = blocks_in(plan.tiles[0], 1, far_end);
    REQUIRE(found.size() == 6);
    // Rounding may swap neighbours in rank; no chosen block may be clearly worse than one left out.
    for (const int64_t b : found) {
      const auto entry = std::find_if(share.begin(), share.end(), [&](const auto& e) { return e.second == b; });
      CHECK(entry->first > share[5].first - 0.1);
    }
    int64_t place = -1;
    for (const auto& segment : plan.tiles[0]) {
      if (place >= 0) CHECK(segment.first_row + segment.shift == place);
      place = segment.end_row + segment.shift;
    }
    CHECK(plan.tiles[0].back().shift == 0);
  });
}

TEST_CASE("forced blocks take the places of the worst that were chosen", "[attention]") {
  Indexed made("scan8", DType::kF32, 2048);
  made.build(2048);
  const int64_t pos = 2000, far_end = pos / 64 - 2;
  const auto q = Random(14).row(made.params.n_heads * 32, -2, 2);
  const auto found = [&](int64_t budget, std::vector<int32_t> forced) {
    return blocks_in(choose(made, selecting("scan8", budget), pos, q, 1, forced).tiles[0], 1, far_end);
  };
  const auto four = found(4, {}), six = found(6, {});
  std::vector<int32_t> missed;
  for (int32_t b = 1; b < far_end && missed.size() < 2; ++b) {
    if (std::find(six.begin(), six.end(), b) == six.end()) missed.push_back(b);
  }
  auto wanted = four;
  wanted.insert(wanted.end(), missed.begin(), missed.end());
  std::sort(wanted.begin(), wanted.end());
  CHECK(found(6, missed) == wanted);
  // What would be read anyway changes nothing; nor what stands among sinks, window, or behind the query.
  CHECK(found(6, {static_cast<int32_t>(six[0]), 0, static_cast<int32_t>(far_end), 1000}) == six);
  CHECK(found(1, missed) == std::vector<int64_t>{missed[0]});
}

TEST_CASE("as many blocks are chosen as hold the mass that is wanted of every head", "[attention]") {
  Indexed made("scan8", DType::kF32, 2048);
  made.build(2048);
  const int64_t pos = 2000, far_end = pos / 64 - 2;
  const auto q = Random(14).row(made.params.n_heads * 32, -2, 2);
  const auto chosen = [&](double mass, int64_t most) {
    Reading reading = selecting("scan8", most);
    reading.mass = mass;
    return blocks_in(choose(made, reading, pos, q).tiles[0], 1, far_end);
  };
  size_t last = 0;
  for (const double mass : {0.2, 0.5, 0.8, 0.95}) {
    const auto blocks = chosen(mass, 25);
    CAPTURE(mass);
    CHECK(blocks.size() >= last);
    last = blocks.size();
    double least = 1, without_one = 1;
    for (int64_t head = 0; head < made.params.n_heads; ++head) {
      double total = 0, held = 0, smallest = 1e300;
      for (int64_t b = 1; b < far_end; ++b) {
        const double weight = std::exp(made.reference(made.index->kind(), q, head, pos, b));
        total += weight;
        if (std::count(blocks.begin(), blocks.end(), b) == 0) continue;
        held += weight;
        smallest = std::min(smallest, weight);
      }
      least = std::min(least, held / total);
      without_one = std::min(without_one, (held - smallest) / total);
    }
    if (blocks.size() < 25) CHECK(least > mass - 0.02);
    CHECK(without_one < mass + 0.02);
  }
  CHECK(last > 1);
  CHECK(chosen(1.0, 6).size() == 6);
  CHECK(chosen(0, 6).size() == 6);
}

TEST_CASE("with room for all blocks a selection is dense attention, bit for bit", "[attention]") {
  for_each_isa([](const std::string&) {
    Indexed made("sub8", DType::kQ8_0, 1000);
    made.build(1000);
    const int64_t width = made.params.n_heads * 32;
    const auto q = Random(15).row(8 * width, -2, 2);
    for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
      const auto plan = choose(made, selecting("sub8", 100, scope), 992, q);
      for (const auto& tile : plan.tiles) {
        REQUIRE(tile.size() == 1);
        CHECK(tile[0].first_row == 0);
        CHECK(tile[0].shift == 0);
      }
    }
  });
}

TEST_CASE("an exact choice has the blocks with the best keys, and need not look at all of them", "[attention]") {
  for (const DType type : {DType::kF32, DType::kQ8_0, DType::kQ4_0}) {
    for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
      Indexed made("minmax16", type, 4096), keys("scan8", DType::kF32, 4096);
      // A few keys stand out, as they do in texts.
      for (Indexed* one : {&made, &keys}) {
        for (size_t i = 0; i < one->raw.size(); ++i) one->raw[i] *= i / 64 % 97 == 0 ? 3.0F : 0.3F;
        one->build(4096);
      }
      const int64_t pos = 4095, far_end = 61;
      const auto q = Random(21).row(made.params.n_heads * 32, -2, 2);
      Reading exact = selecting("minmax16", 6, scope);
      exact.choice = attention::Choice::kExact;
      const auto plan = choose(made, exact, pos, q);
      CAPTURE(static_cast<int>(type), static_cast<int>(scope), plan.looked_at);
      CHECK(plan.looked_at < 2 * 60);
      CHECK(plan.looked_at >= 6);
      for (size_t tile = 0; tile < plan.tiles.size(); ++tile) {
        const auto found = blocks_in(plan.tiles[tile], 1, far_end);
        REQUIRE(found.size() == 6);
        // By definition: best keys, less the logarithm of what the bounds of all blocks add up to.
        const int64_t heads = scope == Scope::kHead ? 1 : 2, first = scope == Scope::kHead ? int64_t(tile) : 0;
        std::vector<std::pair<double, int64_t>> share;
        for (int64_t b = 1; b < far_end; ++b) share.push_back({-1e300, b});
        for (int64_t head = first * 3; head < (first + heads) * 3; ++head) {
          double total = 0;
          for (int64_t b = 1; b < far_end; ++b) total += std::exp(made.reference(made.index->kind(), q, head, pos, b));
          for (auto& [best, b] : share) {
            best = std::max(best, keys.reference(keys.index->kind(), q, head, pos, b) - std::log(total));
          }
        }
        std::sort(share.begin(), share.end(), std::greater<>());
        for (const int64_t b : found) {
          const auto entry = std::find_if(share.begin(), share.end(), [&](const auto& e) { return e.second == b; });
          // The bounds are rounded to 8 bits, the cache to its format.
          CHECK(entry->first > share[5].first - (type == DType::kF32 ? 0.05 : type == DType::kQ8_0 ? 0.1 : 0.6));
        }
      }
    }
  }
}

TEST_CASE("queries that choose together choose as their mean does, at its last place", "[attention]") {
  for (const char* kind : {"scan4", "sub8", "mean"}) {
    for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
      for (const int64_t n : {1, 10, 64}) {
        Indexed made(kind, DType::kQ8_0, 3000);
        made.build(3000);
        const int64_t width = made.params.n_heads * 32, pos0 = 2944;
        const auto mean = Random(17).row(width, -2, 2), noise = Random(18).row(width, -2, 2);
        const auto at = [&](std::vector<float> q, int64_t pos, float factor) {
          for (size_t i = 0; i < q.size(); ++i) q[i] += factor * noise[i];
          attention::turn(made.params.rotary, pos, q.data(), made.params.n_heads, 32);
          return q;
        };
        std::vector<float> rows;
        for (int64_t t = 0; t < n; ++t) {
          const auto row = at(mean, pos0 + t, n == 1 ? 0.0F : t % 2 == 0 ? 2.0F : -2.0F);
          rows.insert(rows.end(), row.begin(), row.end());
        }
        Reading together = selecting(kind, 5, scope);
        together.choice = attention::Choice::kTile;
        const auto plan = choose(made, together, pos0, rows);
        const auto one = choose(made, selecting(kind, 5, scope), pos0 + n - 1, at(mean, pos0 + n - 1, 0));
        const auto noisy = choose(made, selecting(kind, 5, scope), pos0 + n - 1, at(mean, pos0 + n - 1, -2));
        CAPTURE(kind, n);
        CHECK(plan == one);
        CHECK((n == 1 || noisy != plan));
        CHECK(choose(made, together, pos0, rows, 3) == plan);
      }
    }
  }
}

TEST_CASE("a query chooses the same whoever is planned with it, on any number of threads", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const char* kind : {"scan4", "sub8", "minmax"}) {
      for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
        Indexed made(kind, DType::kQ8_0, 3000);
        made.build(3000);
        const int64_t width = made.params.n_heads * 32;
        // Across a border of blocks, where the far blocks of later queries are one more.
        const auto q = Random(16).row(8 * width, -2, 2);
        made.build_coarse("sub16");
        Reading readings[4];
        for (Reading& reading : readings) reading = selecting(kind, 5, scope);
        readings[1].coarse = readings[3].coarse = "sub16";
        readings[1].shortlist = 20;
        // Of the first queries all far blocks fit: in the list, among those that are read.
        const int64_t first_far = 2939 / 64 - 3;
        readings[2].blocks = first_far;
        readings[2].mass = 0.5;
        readings[3].shortlist = first_far;
        for (const Reading& reading : readings) {
          const auto whole = choose(made, reading, 2939, q);
          CHECK(choose(made, reading, 2939, q, 3) == whole);
          const size_t per_query = whole.tiles.size() / 8;
          for (int64_t t = 0; t < 8; ++t) {
            const auto one =
                choose(made, reading, 2939 + t, std::vector<float>(q.begin() + t * width, q.begin() + (t + 1) * width));
            for (size_t i = 0; i < per_query; ++i) {
              CHECK(Chosen{{one.tiles[i]}, {0}} == Chosen{{whole.tiles[size_t(t) * per_query + i]}, {0}});
            }
          }
        }
      }
    }
  });
}

TEST_CASE("policies are completed for the heads of a model, and unknown names are refused", "[attention]") {
  using attention::resolve_policy;
  const attention::ModelShape narrow{100000, 8192, 64}, wide{100000, 32768, 256}, small{8000, 8192, 64};
  CHECK(resolve_policy({}, small).value() == nullptr);
  CHECK(resolve_policy({"dense"}, narrow).value() == nullptr);
  const auto a = resolve_policy({}, narrow).value();
  CHECK(a->dense_until == 8192);
  CHECK(a->reading(8191, true, 0).role == Role::kDense);
  CHECK(a->reading(8192, false, 0).role == Role::kStream);
  CHECK(a->reading(8192, true, 0).role == Role::kSelect);
  CHECK(std::string(a->index()->name) == "scan4");
  CHECK(a->coarse_index() == nullptr);
  const auto b = resolve_policy({}, wide).value();
  CHECK(std::string(b->index()->name) == "scan4");
  REQUIRE(b->coarse_index() != nullptr);
  CHECK(std::string(b->coarse_index()->name) == "sub8");
  CHECK(b->ask.shortlist == 512);
  CHECK(resolve_policy({"select", "auto", 64 * 300}, wide).value()->ask.shortlist == 1200);
  CHECK(resolve_policy({"select", "auto", 0, "scan4"}, wide).value()->coarse_index() == nullptr);
  CHECK(resolve_policy({"rekv"}, wide).value()->coarse_index() == nullptr);
  // Choices that read the keys themselves take the index that they are given, alone.
  for (const char* name : {"bestfirst", "sparf", "xattention"}) {
    CAPTURE(name);
    const auto row = resolve_policy({name}, wide);
    CHECK((row.has_value() && (*row == nullptr || (*row)->coarse_index() == nullptr)));
  }
  CHECK(resolve_policy({"select", "auto", 1000}, narrow).value()->ask.blocks == 16);
  CHECK(resolve_policy({"select", "dense"}, narrow).value()->read.role == Role::kDense);
  const auto wrong = resolve_policy({"selcet"}, narrow);
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().code == Code::kInvalidArgument);
  CHECK(wrong.error().message.find("stream") != std::string::npos);
  const auto extended = [&](const char* attention, const char* how, const attention::ModelShape& shape) {
    attention::PolicyChoice choice{attention};
    choice.extend = how;
    return resolve_policy(choice, shape);
  };
  for (const char* how : {"none", "yarn", "dca"}) CHECK(extended("auto", how, small).value() == nullptr);
  for (const char* how : {"none", "yarn"}) CHECK(extended("auto", how, narrow).value() == nullptr);
  const auto chunks = extended("auto", "dca", narrow).value();
  CHECK(chunks->name == "dense");
  CHECK(chunks->dense_until == 8192);
  CHECK(chunks->ask.positions.kind == Positions::kChunk);
  CHECK(extended("quest", "dca", narrow).value()->ask.positions.kind == Positions::kTrue);
  CHECK(extended("select", "none", narrow).value()->ask.positions.kind == Positions::kTrue);
  CHECK(extended("quest", "relay", narrow).value()->ask.positions.kind == Positions::kRelay);
  CHECK(extended("auto", "relay", narrow).value()->describe() == a->describe());
  // An exact choice needs bounds, whoever decides on the index.
  CHECK(resolve_policy({"bestfirst", "auto", 0, "scan4"}, narrow).error().code == Code::kInvalidArgument);
  auto two_levels = std::make_shared<attention::PolicyRows>();
  two_levels->rows.push_back({"exact-levels", "", a->read, a->ask, ""});
  two_levels->rows.back().ask.index = "minmax16";
  two_levels->rows.back().ask.choice = attention::Choice::kExact;
  two_levels->rows.back().ask.coarse = "mean";
  attention::PolicyChoice exact_levels{"exact-levels"};
  exact_levels.rows = two_levels;
  CHECK(resolve_policy(exact_levels, narrow).error().message.find("coarse index mean") != std::string::npos);
  auto exact_text = std::make_shared<attention::PolicyRows>();
  exact_text->rows.push_back({"exact-text", "", a->ask, a->ask, ""});
  exact_text->rows.back().read.index = "minmax16";
  exact_text->rows.back().read.choice = attention::Choice::kExact;
  attention::PolicyChoice exact_prefill{"select", "exact-text"};
  exact_prefill.rows = exact_text;
  CHECK(resolve_policy(exact_prefill, narrow).error().code == Code::kInvalidArgument);
  CHECK(extended("dense", "relay", narrow).error().code == Code::kInvalidArgument);
  for (const auto& policy : attention::policies()) {
    for (const auto& shape : {narrow, wide}) {
      const auto made = resolve_policy({std::string(policy.name)}, shape);
      REQUIRE(made.has_value());
      if (*made == nullptr) continue;
      for (const Reading* reading : {&(*made)->read, &(*made)->ask}) {
        CHECK(reading->sinks % 64 == 0);
        CHECK(reading->window % 64 == 0);
        if (reading->needs_index()) CHECK(attention::find_index_kind(reading->index) != nullptr);
      }
    }
  }
}
