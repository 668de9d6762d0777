// Choices by the keys themselves, against the papers' formulas in double precision, written without blocks or rows.
#include "src/attention/tile_choice.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "src/attention/selector.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/reference_attention.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::Choice;
using attention::Positions;
using attention::Reading;
using attention::Scope;

namespace {

using Vector = std::vector<double>;

constexpr int64_t kDim = 32, kHeads = 6, kKvHeads = 2, kFirst = 2;  // far blocks begin behind two of sinks
constexpr Choice kChoices[] = {Choice::kAntidiagonal, Choice::kSampled, Choice::kDivergence};

// What a layer has cached, and the queries of a tile behind it.
struct Case {
  std::vector<double> frequency;
  attention::AttnParams params;
  AttentionCache cache;
  std::vector<float> q;  // [n, n_heads * k_dim], as attention gets them
  int64_t pos0;
  int64_t n;

  Case(DType type, int64_t position, int64_t queries, uint64_t seed = 3)
      : params(make_params(type)), cache(params.layout, position, seed), pos0(position), n(queries) {
    for (int64_t i = 0; i < kDim / 2; ++i) frequency.push_back(std::pow(10000.0, -2.0 * double(i) / double(kDim)));
    params.rotary = {frequency, true};
    q = Random(seed + 1).row(n * kHeads * kDim, -2, 2);
  }
  void build() { cache.reserve_until(params.layout, pos0), cache.region.commit_rows(pos0); }
  int64_t far_end(const Reading& reading) const { return reading.window_begin(pos0 + n - 1) / 64; }
  static attention::AttnParams make_params(DType type) {
    attention::AttnParams params;
    params.layout = {kKvHeads, kDim, 32, type, type};
    params.n_heads = kHeads;
    params.scale = 0.3F;
    return params;
  }
};

Reading reading_of(Choice choice, Positions positions = Positions::kTrue, Scope scope = Scope::kHead) {
  Reading reading{attention::Role::kSelect, 64 * kFirst, 128, {positions}, {}, 4, scope};
  reading.choice = choice;
  return reading;
}

Vector turned(const Case& made, const float* x, double positions) {
  Vector out(size_t{kDim});
  for (size_t i = 0; i < kDim / 2; ++i) {
    const double c = std::cos(positions * made.frequency[i]), s = std::sin(positions * made.frequency[i]);
    out[i] = double(x[i]) * c - double(x[i + kDim / 2]) * s;
    out[i + kDim / 2] = double(x[i + kDim / 2]) * c + double(x[i]) * s;
  }
  return out;
}

double product(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Vector softmax(Vector x) {
  const double top = *std::max_element(x.begin(), x.end());
  double total = 0;
  for (double& v : x) total += v = std::exp(v - top);
  for (double& v : x) v /= total;
  return x;
}

Vector mean_of(const std::vector<Vector>& rows) {
  Vector mean(rows.front().size(), 0.0);
  for (const Vector& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) mean[i] += row[i] / double(rows.size());
  }
  return mean;
}

// Sums of `each` neighbours.
Vector summed(const Vector& x, size_t each) {
  Vector out(x.size() / each, 0.0);
  for (size_t i = 0; i < x.size(); ++i) out[i / each] += x[i];
  return out;
}

// The papers' formulas for a query head.
struct Formulas {
  std::vector<Vector> q, k;  // of the tile; of all far rows
  double scale;
  double cap;

  Formulas(const Case& made, const Reading& reading, int64_t head)
      : scale(double(made.params.scale)), cap(double(made.params.soft_cap)) {
    const bool is_near = reading.positions.kind != Positions::kTrue;
    for (int64_t t = 0; t < made.n; ++t) {
      const float* x = made.q.data() + (t * kHeads + head) * kDim;
      q.push_back(turned(made, x, is_near ? double(128 - (made.pos0 + made.n - 1)) : 0));
    }
    std::vector<float> keys(size_t{kKvHeads * kDim}), values(size_t{kKvHeads * 32});
    for (int64_t row = kFirst * 64; row < made.far_end(reading) * 64; ++row) {
      const std::byte* block = std::as_const(made.cache.region).block(row / 64);
      decode_kv(made.params.layout, block, row % 64, keys.data(), values.data(), row / 64);
      k.push_back(turned(made, keys.data() + head / 3 * kDim, is_near ? -double(row / 64 * 64) : 0));
    }
  }
  // XAttention: antidiagonals of squares of 8, softmax over the reduced row, sums by block.
  Vector antidiagonal() const {
    std::vector<Vector> rows;
    for (size_t i = 0; i * 8 < q.size(); ++i) {
      Vector row;
      for (size_t j = 0; j * 8 < k.size(); ++j) {
        double sum = 0, pairs = 0;
        for (size_t r = 0; r < 8; ++r) {
          if (i * 8 + 7 - r >= q.size()) continue;
          sum += product(q[i * 8 + 7 - r], k[j * 8 + r]);
          ++pairs;
        }
        row.push_back(sum * scale / pairs);
      }
      rows.push_back(summed(softmax(row), 8));
    }
    return mean_of(rows);
  }
  // Attention of every eighth query, the last among them.
  Vector sampled() const {
    std::vector<Vector> rows;
    for (int64_t t = int64_t(q.size()) - 1; t >= 0; t -= 8) {
      Vector row;
      for (const Vector& key : k) {
        const double s = product(q[size_t(t)], key) * scale;
        row.push_back(cap > 0 ? cap * std::tanh(s / cap) : s);
      }
      rows.push_back(summed(softmax(row), 64));
    }
    return mean_of(rows);
  }
  // FlexPrefill: the mean query and the blocks' mean keys.
  Vector pooled() const {
    Vector row;
    const Vector query = mean_of(q);
    for (size_t b = 0; b * 64 < k.size(); ++b) {
      row.push_back(scale * product(query, mean_of({k.begin() + int64_t(b * 64), k.begin() + int64_t(b * 64 + 64)})));
    }
    return softmax(row);
  }
  static double divergence(const Vector& p, const Vector& v) {
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double middle = (p[i] + v[i]) / 2;
      if (p[i] > 0) sum += 0.5 * p[i] * std::log(p[i] / middle);
      if (v[i] > 0) sum += 0.5 * v[i] * std::log(v[i] / middle);
    }
    return std::sqrt(std::max(sum, 0.0));
  }
  Vector shares(Choice choice, double* apart = nullptr) const {
    if (choice == Choice::kAntidiagonal) return antidiagonal();
    const Vector exact = sampled();
    if (choice == Choice::kSampled) return exact;
    const Vector means = pooled();
    const double d = divergence(means, exact);
    if (apart != nullptr) *apart = d;
    return d < 0.1 ? means : exact;
  }
};

// [n_heads][far blocks]
std::vector<Vector> found_shares(Case& made, const Reading& reading, int n_threads = 1) {
  const int64_t far = made.far_end(reading) - kFirst;
  Workspace scratch;
  const auto bytes = attention::find_shares_bytes(reading, made.params, made.n, far, n_threads);
  REQUIRE(scratch.reserve(bytes).has_value());
  std::vector<float> logs(static_cast<size_t>(kHeads * far), NAN);
  const int64_t width = kHeads * kDim;
  const attention::FarBlocks blocks{
      reading, made.params,          made.cache.region, made.pos0, {made.q.data(), made.n, width, width},
      kFirst,  made.far_end(reading)};
  REQUIRE(find_shares(blocks, logs, scratch, n_threads).has_value());
  std::vector<Vector> out(size_t{kHeads});
  for (size_t i = 0; i < logs.size(); ++i) {
    REQUIRE(std::isfinite(logs[i]));
    out[i / size_t(far)].push_back(std::exp(double(logs[i])));
  }
  return out;
}

double worst_difference(const Vector& a, const Vector& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return 1e30;
    worst = std::max(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

struct Planned {
  std::vector<std::vector<int64_t>> blocks;  // far ones, by tile
  std::vector<size_t> segments;
  bool operator==(const Planned&) const = default;
};

Planned plan_of(Case& made, const Reading& reading, int n_threads = 1) {
  attention::Attention attention;
  attention.n_ctx = made.pos0 + made.n;
  attention.read = reading;
  CHECK(attention.index() == nullptr);
  Workspace scratch;
  REQUIRE(scratch.reserve(plan_scratch_bytes(attention, made.params, made.n, n_threads)).has_value());
  attention::SelectionExtras extras{.keys = &made.cache.region, .forced = {}};
  const int64_t width = kHeads * kDim;
  const auto plan = plan_selection(reading, {}, made.params, made.pos0, {made.q.data(), made.n, width, width}, scratch,
                                   n_threads, extras);
  REQUIRE(plan.has_value());
  Planned out;
  for (const attention::PlanTile& tile : plan->tiles) {
    CHECK(tile.count == made.n);
    out.segments.push_back(tile.segments.size());
    out.blocks.emplace_back();
    for (const attention::Segment& segment : tile.segments) {
      for (int64_t b = segment.first_row / 64; b * 64 < segment.end_row; ++b) {
        if (b >= kFirst && b < made.far_end(reading)) out.blocks.back().push_back(b);
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("shares by the keys are those of the papers' formulas", "[attention]") {
  int64_t n_pooled = 0, n_sampled = 0;
  for_each_isa([&](const std::string&) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      for (const int64_t n : {64, 37, 8, 1}) {
        for (const Positions positions : {Positions::kTrue, Positions::kRelay}) {
          for (const float spread : {0.2F, 1.0F}) {
            Case made(type, 1472, n);
            made.params.soft_cap = n == 37 ? 1.5F : 0;
            // Alike and faint, or each its own: so that means tell enough, or not.
            for (float& x : made.q) x *= spread;
            made.build();
            for (const Choice choice : kChoices) {
              const Reading reading = reading_of(choice, positions);
              const auto found = found_shares(made, reading);
              CHECK(found_shares(made, reading, 3) == found);
              for (int64_t head = 0; head < kHeads; ++head) {
                double apart = 1;
                const Vector wanted = Formulas(made, reading, head).shares(choice, &apart);
                CAPTURE(name_of(choice), static_cast<int>(type), n, static_cast<int>(positions), spread, head, apart);
                // Floats: 256 products of up to 4, and exponentials of their sums.
                if (std::abs(apart - 0.1) > 1e-4) CHECK(worst_difference(found[size_t(head)], wanted) < 2e-5);
                if (choice == Choice::kDivergence) ++(apart < 0.1 ? n_pooled : n_sampled);
              }
            }
          }
        }
      }
    }
  });
  CHECK(n_pooled > 100);
  CHECK(n_sampled > 100);
}

TEST_CASE("shares of keys that leave nothing to others are numbers", "[attention]") {
  for (const Choice choice : kChoices) {
    Case made(DType::kF32, 1472, 64);
    // One block answers all queries: the others' shares are below what a double holds.
    for (int64_t t = 0; t < made.n; ++t) {
      for (int64_t d = 0; d < kHeads * kDim; ++d) made.q[size_t(t * kHeads * kDim + d)] = 40;
    }
    for (size_t i = 0; i < made.cache.k.size(); ++i) {
      const size_t row = i / (kKvHeads * kDim);
      made.cache.k[i] = row / 64 == 9 ? 4 : -4;
      // The best key lies where the mean is not; both distributions are 0 nearly everywhere.
      if (choice == Choice::kDivergence && row / 64 == 9 && row % 64 != 5) made.cache.k[i] = -4;
      if (choice == Choice::kDivergence && row / 64 == 11) made.cache.k[i] = 2;
    }
    made.build();
    const auto found = found_shares(made, reading_of(choice));
    for (const Vector& head : found) {
      CHECK(std::abs(head[9 - kFirst] - 1) < 1e-6);
      CHECK(std::abs(mean_of({head})[0]) < 1e-300);
    }
    Reading reading = reading_of(choice);
    reading.mass = 0.9;
    for (const auto& blocks : plan_of(made, reading).blocks) CHECK(blocks == std::vector<int64_t>{9});
  }
}

TEST_CASE("as few blocks are read as hold the mass, or as many as there may be", "[attention]") {
  for (const Choice choice : kChoices) {
    for (const Scope scope : {Scope::kHead, Scope::kLayer}) {
      for (const double mass : {0.0, 0.5, 0.9}) {
        Case made(DType::kF32, 1472, 64);
        for (float& x : made.q) x *= 0.6F;
        made.build();
        Reading reading = reading_of(choice, Positions::kTrue, scope);
        reading.mass = mass;
        reading.blocks = mass > 0 ? 16 : 5;
        const Planned plan = plan_of(made, reading);
        CHECK(plan_of(made, reading, 3) == plan);
        REQUIRE(plan.blocks.size() == (scope == Scope::kHead ? 2 : 1));
        for (size_t tile = 0; tile < plan.blocks.size(); ++tile) {
          const int64_t first = scope == Scope::kHead ? int64_t(tile) * 3 : 0,
                        end = first + (first == 0 && scope == Scope::kLayer ? 6 : 3);
          // Blocks in the order of what the head gives them that wants them most.
          std::vector<Vector> shares;
          for (int64_t head = first; head < end; ++head) shares.push_back(Formulas(made, reading, head).shares(choice));
          std::vector<std::pair<double, int64_t>> order;
          for (size_t b = 0; b < shares[0].size(); ++b) {
            double best = 0;
            for (const Vector& head : shares) best = std::max(best, head[b]);
            order.emplace_back(best, kFirst + int64_t(b));
          }
          std::sort(order.begin(), order.end(), std::greater<>());
          size_t wanted = mass > 0 ? 0 : 5;
          for (const Vector& head : shares) {
            double held = 0;
            for (size_t i = 0; mass > 0 && i < 16 && held < mass; ++i) {
              held += head[size_t(order[i].second - kFirst)];
              wanted = std::max(wanted, i + 1);
            }
          }
          std::vector<int64_t> best;
          for (size_t i = 0; i < wanted; ++i) best.push_back(order[i].second);
          std::sort(best.begin(), best.end());
          CAPTURE(name_of(choice), static_cast<int>(scope), mass);
          CHECK(plan.blocks[tile] == best);
        }
      }
    }
  }
}

TEST_CASE("with room for all blocks a choice by keys reads everything, and looks at nothing", "[attention]") {
  for (const Choice choice : kChoices) {
    Case made(DType::kQ8_0, 1472, 64);
    made.build();
    Reading reading = reading_of(choice);
    reading.mass = 0.1;
    reading.blocks = made.far_end(reading) - kFirst;
    for (const size_t segments : plan_of(made, reading).segments) CHECK(segments == 1);
    --reading.blocks;
    CHECK(plan_of(made, reading).blocks[0].size() < size_t(reading.blocks));
  }
}

TEST_CASE("rows that choose by keys keep no index, unless questions need one", "[attention]") {
  const attention::ModelShape shape{100000, 8192, 64, 4};
  for (const char* name : {"flexprefill", "xattention", "minference"}) {
    const auto made = attention::resolve_policy({name, "auto", 0, "sub8"}, shape).value();
    CAPTURE(name);
    REQUIRE(made != nullptr);
    CHECK(made->reads_by_tile());
    CHECK(made->read.is_by_keys());
    CHECK(made->index() == nullptr);
    CHECK_FALSE(made->keeps_index(0));
    CHECK(made->describe().find(name_of(made->read.choice)) != std::string::npos);
    attention::PolicyChoice asking{"select", name, 0, "auto", "1"};
    const auto both = attention::resolve_policy(asking, shape).value();
    CHECK(std::string(both->index()->name) == "scan4");
    CHECK(both->read.index.empty());
    CHECK(both->keeps_index(1));
    CHECK_FALSE(both->keeps_index(0));
  }
}
