// Speed of plans without a model: those of a file that --dump-plan wrote, and a zoo of masks.
//
//   bench_plans --replay FILE [--threads N] [--seconds S] [--isa NAME]
//   bench_plans --zoo [--masks A,B] [--lengths N,N] [--heads QxKVxDIM] [--type NAME] [--rows N] [--threads N]
//               [--seconds S] [--isa NAME]
//
// Replay: one line a layer: plans, queries, rows that a query reads, time, GB/s of cache and GFLOP/s, and how much
// dense attention of the same queries would take.
// Zoo: masks of the Long-Context Attention Benchmark (arXiv 2510.17896) and of selection. Queries of a few places of a
// text (a quarter, a half, three quarters, its end) are run, --rows of them each; time of a whole forward pass is that
// of a query times the length. What a mask leaves out is not read: blocks of 64 are the unit, so the share of pairs
// (visible of all) and of blocks (read of all) are both shown. GFLOP/s count visible pairs alone.
// Masks that see later keys are run as queries behind those keys: the executor is causal, and positions are nothing
// else to it. Processor time with one thread, wall time with more; the best of several runs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "src/attention/plan.hpp"
#include "src/attention/selector.hpp"
#include "src/base/check.hpp"
#include "src/base/cpu.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/plan_file.hpp"

using namespace lcrun;
using attention::AttnParams;
using attention::PlanTile;
using attention::Segment;

namespace {

constexpr int64_t kBlock = storage::kBlockTokens;
constexpr int64_t kWindow = 1024;
constexpr int64_t kPatternBlocks = 64;  // of random keys, which the rest of a cache repeats

struct Settings {
  std::string replay;
  bool zoo = false;
  std::string masks;
  std::vector<int64_t> lengths{1024, 4096, 16384, 65536};
  int64_t q_heads = 9, kv_heads = 3, dim = 64;
  std::string type = "q8_0";
  int64_t rows = 128;
  int threads = 1;
  double seconds = 0.2;
  std::string isa;
};

bool parse_value(const std::string& name, const char* value, Settings& s) {
  long long q, kv, dim;
  if (name == "--replay") {
    s.replay = value;
  } else if (name == "--masks") {
    s.masks = value;
  } else if (name == "--type") {
    s.type = value;
  } else if (name == "--isa") {
    s.isa = value;
  } else if (name == "--rows") {
    s.rows = std::clamp<int64_t>(std::atoll(value), 1, 4096);
  } else if (name == "--threads") {
    s.threads = std::max(1, std::atoi(value));
  } else if (name == "--seconds") {
    s.seconds = std::atof(value);
  } else if (name == "--heads" && std::sscanf(value, "%lldx%lldx%lld", &q, &kv, &dim) == 3) {
    s.q_heads = q;
    s.kv_heads = kv;
    s.dim = dim;
  } else if (name == "--lengths") {
    s.lengths.clear();
    for (const char* at = value; *at != '\0'; at += *at == ',' ? 1 : 0) {
      char* end = nullptr;
      s.lengths.push_back(std::max<int64_t>(512, std::strtoll(at, &end, 10)));
      if (end == at) return false;
      at = end;
    }
  } else {
    return false;
  }
  return true;
}

bool parse(int argc, char** argv, Settings& s) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--zoo") {
      s.zoo = true;
    } else if (i + 1 >= argc || !parse_value(name, argv[++i], s)) {
      return false;
    }
  }
  return s.zoo != !s.replay.empty();
}

double now(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class Body>
double best_seconds(const Settings& s, const Body& body) {
  double best = 1e30;
  const double end = now(s.threads) + s.seconds;
  for (int run = 0; run < 2 || now(s.threads) < end; ++run) {
    const double start = now(s.threads);
    body();
    best = std::min(best, now(s.threads) - start);
  }
  return best;
}

// A layer's cache of n tokens, and random queries.
class Layer {
 public:
  Layer(const AttnParams& params, int64_t n, int64_t most_queries)
      : params_(params),
        region_({storage::RegionKind::kAppend, "kv", params.layout.block_bytes(), 0}),
        q_(static_cast<size_t>(most_queries * q_width())),
        o_(static_cast<size_t>(most_queries * params.n_heads * params.layout.v_dim)) {
    const attention::KvLayout& layout = params.layout;
    std::vector<float> k(static_cast<size_t>(layout.n_kv_heads * layout.k_dim));
    std::vector<float> v(static_cast<size_t>(layout.n_kv_heads * layout.v_dim));
    const int64_t blocks = (n + kBlock - 1) / kBlock;
    for (int64_t b = 0; b < std::min(blocks, kPatternBlocks); ++b) {
      LCRUN_CHECK(region_.reserve_rows(kBlock).has_value());
      for (int64_t row = 0; row < kBlock; ++row) {
        fill(k);
        fill(v);
        attention::encode_kv(layout, k.data(), v.data(), row, region_.block(b));
      }
      region_.commit_rows(kBlock);
    }
    for (int64_t b = kPatternBlocks; b < blocks; ++b) {
      LCRUN_CHECK(region_.repeat_block(b % kPatternBlocks).has_value());
      region_.commit_rows(kBlock);
    }
    fill(q_);
  }

  // Seconds of a plan for n queries from pos0 on.
  double time(const Settings& s, std::span<const PlanTile> tiles, int64_t pos0, int64_t n) {
    Workspace scratch;
    LCRUN_CHECK(scratch.reserve(attention::tile_scratch_bytes(params_, n, s.threads)).has_value());
    return best_seconds(s, [&] {
      const Status done = attention::execute(params_, region_, {tiles}, pos0, queries(n), out(n), scratch, s.threads);
      LCRUN_CHECK(done.has_value());
      scratch.reset();
    });
  }
  double time_dense(const Settings& s, int64_t pos0, int64_t n) {
    Workspace scratch;
    LCRUN_CHECK(scratch.reserve(attention::attend_scratch_bytes(params_, n, s.threads)).has_value());
    return best_seconds(s, [&] {
      LCRUN_CHECK(attention::attend(params_, region_, pos0, queries(n), out(n), scratch, s.threads).has_value());
      scratch.reset();
    });
  }

 private:
  int64_t q_width() const { return params_.n_heads * params_.layout.k_dim; }
  MatView queries(int64_t n) { return {q_.data(), n, q_width(), q_width()}; }
  MatView out(int64_t n) {
    const int64_t width = params_.n_heads * params_.layout.v_dim;
    return {o_.data(), n, width, width};
  }
  void fill(std::vector<float>& x) {
    for (float& value : x) value = uniform_(random_);
  }

  AttnParams params_;
  storage::Region region_;
  std::minstd_rand random_{1};
  std::uniform_real_distribution<float> uniform_{-1, 1};
  std::vector<float> q_, o_;
};

// What a plan touches.
struct Work {
  double pairs = 0;   // of a query head and a key
  double blocks = 0;  // of one KV head, read
};

Work work_of(std::span<const PlanTile> tiles, const AttnParams& p, int64_t pos0) {
  Work work;
  for (const PlanTile& tile : tiles) {
    const int64_t kv_heads = tile.kv_head < 0 ? p.layout.n_kv_heads : 1;
    const int64_t heads = kv_heads * (p.n_heads / p.layout.n_kv_heads);
    for (const Segment& one : tile.segments) {
      for (int64_t t = tile.first; t < tile.first + tile.count; ++t) {
        work.pairs +=
            static_cast<double>(std::max<int64_t>(0, std::min(one.end_row, pos0 + t + 1) - one.first_row) * heads);
      }
      work.blocks += static_cast<double>(((one.end_row + kBlock - 1) / kBlock - one.first_row / kBlock) * kv_heads);
    }
  }
  return work;
}

double flops(const Work& work, const AttnParams& p) {
  return 2 * work.pairs * static_cast<double>(p.layout.k_dim + p.layout.v_dim);
}

// --- replay ----------------------------------------------------------------------------------------------------------

int replay(const Settings& s) {
  std::ifstream file(s.replay, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto log = runtime::parse_plans(text, s.replay);
  if (!log.has_value()) {
    std::fprintf(stderr, "bench_plans: %s\n", log.error().message.c_str());
    return 2;
  }
  std::printf(
      "| layer | plans | queries | rows a query | us a query | GB/s | GFLOP/s | dense us a query | times |\n"
      "|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (size_t i = 0; i < log->layers.size(); ++i) {
    const runtime::LoggedLayer& logged = log->layers[i];
    AttnParams params;
    params.layout = logged.layout;
    params.n_heads = logged.n_heads;
    params.scale = static_cast<float>(logged.scale);
    int64_t rows = 0, most = 0, plans = 0, queries = 0;
    for (const runtime::LoggedPlan& plan : log->plans) {
      if (plan.layer != i) continue;
      rows = std::max(rows, plan.pos + plan.n);
      most = std::max(most, plan.n);
    }
    if (most == 0) continue;
    Layer layer(params, rows, most);
    double seconds = 0, dense = 0;
    Work work;
    for (const runtime::LoggedPlan& plan : log->plans) {
      if (plan.layer != i) continue;
      std::vector<PlanTile> tiles;
      for (const runtime::LoggedTile& tile : plan.tiles) {
        tiles.push_back({tile.first, tile.count, tile.kv_head, tile.segments});
      }
      seconds += layer.time(s, tiles, plan.pos, plan.n);
      dense += layer.time_dense(s, plan.pos, plan.n);
      const Work one = work_of(tiles, params, plan.pos);
      work.pairs += one.pairs;
      work.blocks += one.blocks;
      ++plans;
      queries += plan.n;
    }
    const auto n = static_cast<double>(queries);
    std::printf("| %lld | %lld | %lld | %.0f | %.1f | %.1f | %.1f | %.1f | %.2f |\n",
                static_cast<long long>(logged.layer), static_cast<long long>(plans), static_cast<long long>(queries),
                work.pairs / n / static_cast<double>(params.n_heads), seconds / n * 1e6,
                work.blocks * static_cast<double>(params.layout.head_bytes()) / seconds * 1e-9,
                flops(work, params) / seconds * 1e-9, dense / n * 1e6, dense / seconds);
    std::fflush(stdout);
  }
  return 0;
}

// --- the zoo ---------------------------------------------------------------------------------------------------------

// What queries [first, end) of a text of n tokens see: ranges of rows, any order; later keys too.
using Mask = std::vector<Segment> (*)(int64_t first, int64_t end, int64_t n);

struct Named {
  const char* name;
  bool is_causal;  // keys after a query are not seen, whatever the ranges say
  Mask mask;
};

int64_t document_of(int64_t at, int64_t n) { return at / std::max<int64_t>(kBlock, n / 8); }
Segment document(int64_t at, int64_t n) {
  const int64_t size = std::max<int64_t>(kBlock, n / 8);
  const int64_t first = document_of(at, n) * size;
  return {first, std::min(n, first + size), 0};
}

// Blocks before the tile's own, each with this chance, the same ones on every run; and its own.
std::vector<Segment> random_blocks(int64_t first, int64_t end, double density, uint64_t seed) {
  std::minstd_rand random(static_cast<unsigned>(first / kBlock * 977 + static_cast<int64_t>(seed) + 1));
  std::vector<Segment> ranges;
  for (int64_t b = 0; b < first / kBlock; ++b) {
    const bool is_in = static_cast<double>(random()) / static_cast<double>(std::minstd_rand::max()) < density;
    if (is_in) ranges.push_back({b * kBlock, (b + 1) * kBlock, 0});
  }
  ranges.push_back({first / kBlock * kBlock, end, 0});
  return ranges;
}

const Named kZoo[] = {
    {"full", false,
     [](int64_t, int64_t, int64_t n) {
       return std::vector<Segment>{{0, n, 0}};
     }},
    {"causal", true,
     [](int64_t, int64_t end, int64_t) {
       return std::vector<Segment>{{0, end, 0}};
     }},
    {"document", false, [](int64_t first, int64_t, int64_t n) { return std::vector<Segment>{document(first, n)}; }},
    {"causal-document", true,
     [](int64_t first, int64_t end, int64_t n) {
       return std::vector<Segment>{{document(first, n).first_row, end, 0}};
     }},
    {"window", false,
     [](int64_t first, int64_t end, int64_t n) {
       return std::vector<Segment>{{std::max<int64_t>(0, first - kWindow), std::min(n, end + kWindow), 0}};
     }},
    {"causal-window", true,
     [](int64_t first, int64_t end, int64_t) {
       return std::vector<Segment>{{std::max<int64_t>(0, first - kWindow), end, 0}};
     }},
    {"sink-window", true,
     [](int64_t first, int64_t end, int64_t) {
       return std::vector<Segment>{{0, kBlock, 0}, {std::max<int64_t>(0, first - kWindow), end, 0}};
     }},
    {"global-window", false,
     [](int64_t first, int64_t end, int64_t n) {
       return std::vector<Segment>{{0, 512, 0}, {std::max<int64_t>(0, first - kWindow), std::min(n, end + kWindow), 0}};
     }},
    {"prefix-lm", false,
     [](int64_t, int64_t end, int64_t n) {
       return std::vector<Segment>{{0, std::max(end, n / 4), 0}};
     }},
    {"prefix-lm-document", false,
     [](int64_t first, int64_t end, int64_t n) {
       const Segment own = document(first, n);
       return std::vector<Segment>{
           {own.first_row, std::max(end, own.first_row + (own.end_row - own.first_row) / 4), 0}};
     }},
    {"shared-question", true,
     [](int64_t first, int64_t end, int64_t n) {
       return std::vector<Segment>{{0, std::min(end, n / 8), 0}, {document(first, n).first_row, end, 0}};
     }},
    {"block-causal-document", true,
     [](int64_t first, int64_t end, int64_t n) {
       const int64_t own = document_of(first, n);
       const int64_t before = own > 0 ? document((own - 1) * std::max<int64_t>(kBlock, n / 8), n).first_row : 0;
       return std::vector<Segment>{{before, end, 0}};
     }},
    {"block-sparse-0.1", true, [](int64_t first, int64_t end, int64_t) { return random_blocks(first, end, 0.1, 1); }},
    {"block-sparse-0.2", true, [](int64_t first, int64_t end, int64_t) { return random_blocks(first, end, 0.2, 1); }},
    {"block-sparse-0.5", true, [](int64_t first, int64_t end, int64_t) { return random_blocks(first, end, 0.5, 1); }},
    {"variable-block-sparse", true,
     [](int64_t first, int64_t end, int64_t n) {
       return random_blocks(first, end, 0.05 + 0.45 * static_cast<double>(first) / static_cast<double>(n), 2);
     }},
    {"vertical-slash", true,
     [](int64_t first, int64_t end, int64_t) {
       std::vector<Segment> ranges = random_blocks(0, kBlock, 0, 0);
       for (int64_t column = 7; column * kBlock < first; column += 37) {  // vertical: the same blocks for all
         ranges.push_back({column * kBlock, (column + 1) * kBlock, 0});
       }
       for (int64_t offset = 2048; offset < first; offset *= 2) {  // slashes: the same distances for all
         ranges.push_back({first - offset, std::min(end, first - offset + 2 * kBlock), 0});
       }
       ranges.push_back({std::max<int64_t>(0, first - 256), end, 0});
       return ranges;
     }},
    {"random-16-blocks", true,
     [](int64_t first, int64_t end, int64_t) {
       return random_blocks(first, end, 16.0 / std::max(1.0, static_cast<double>(first) / 64.0), 3);
     }},
};

// Ascending and apart, as plans want them.
std::vector<Segment> merged(std::vector<Segment> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const Segment& a, const Segment& b) { return a.first_row < b.first_row; });
  std::vector<Segment> out;
  for (const Segment& one : ranges) {
    if (one.first_row >= one.end_row) continue;
    if (!out.empty() && one.first_row <= out.back().end_row) {
      out.back().end_row = std::max(out.back().end_row, one.end_row);
    } else {
      out.push_back(one);
    }
  }
  return out;
}

struct Timed {
  double seconds = 0;
  Work work;
  double queries = 0;
};

// Queries of a few places, tile by tile: where later keys are seen a tile counts as standing behind them.
Timed run_mask(const Settings& s, const Named& named, const AttnParams& p, Layer& layer, int64_t n) {
  Timed timed;
  const int64_t rows = std::min(s.rows, n / 4);
  for (int64_t part = 1; part <= 4; ++part) {
    const int64_t begin = n * part / 4 - rows;
    std::vector<std::vector<Segment>> segments;
    std::vector<PlanTile> tiles;
    for (int64_t first = begin; first < begin + rows;) {
      const int64_t end = std::min({begin + rows, (first / kBlock + 1) * kBlock, document(first, n).end_row});
      segments.push_back(merged(named.mask(first, end, n)));
      tiles.push_back({first - begin, end - first, -1, {}});
      first = end;
    }
    for (size_t i = 0; i < tiles.size(); ++i) tiles[i].segments = segments[i];
    const int64_t pos0 = named.is_causal ? begin : n;
    timed.seconds += layer.time(s, tiles, pos0, rows);
    const Work work = work_of(tiles, p, pos0);
    timed.work.pairs += work.pairs;
    timed.work.blocks += work.blocks;
    timed.queries += static_cast<double>(rows);
  }
  return timed;
}

bool is_wanted(const Settings& s, const std::string& name) {
  return s.masks.empty() || ("," + s.masks + ",").find("," + name + ",") != std::string::npos;
}

int run_zoo(const Settings& s) {
  const quant::TypeInfo* type = quant::find_type(std::string_view(s.type));
  if (type == nullptr) return 2;
  AttnParams p;
  p.layout = {s.kv_heads, s.dim, s.dim, type->dtype, type->dtype};
  if (!p.layout.check().has_value() || s.q_heads % s.kv_heads != 0) return 2;
  p.n_heads = s.q_heads;
  p.scale = 0.125F;
  std::printf("# %s, %s, %s cache, heads %lldx%lldx%lld, %d threads\n", cpu_model_name().c_str(),
              std::string(kernels::active_isa()).c_str(), s.type.c_str(), static_cast<long long>(s.q_heads),
              static_cast<long long>(s.kv_heads), static_cast<long long>(s.dim), s.threads);
  std::printf(
      "| mask | tokens | pairs | blocks | us a query | GFLOP/s | GB/s | forward, s | of causal | cache |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
  for (const int64_t n : s.lengths) {
    Layer layer(p, n + s.rows, s.rows);
    const double cache = static_cast<double>(p.layout.block_bytes()) * static_cast<double>(n) / 64;
    const double causal = run_mask(s, kZoo[1], p, layer, n).seconds;
    for (const Named& named : kZoo) {
      if (!is_wanted(s, named.name)) continue;
      const Timed timed = run_mask(s, named, p, layer, n);
      const double all = timed.queries * static_cast<double>(n);
      const double per_query = timed.seconds / timed.queries;
      std::printf("| %s | %lld | %.1f %% | %.1f %% | %.1f | %.1f | %.1f | %.3g | %.2f | %.1f MiB |\n", named.name,
                  static_cast<long long>(n), 100 * timed.work.pairs / (all * static_cast<double>(p.n_heads)),
                  100 * timed.work.blocks / (all / 4096.0 * static_cast<double>(p.layout.n_kv_heads)), per_query * 1e6,
                  flops(timed.work, p) / timed.seconds * 1e-9,
                  timed.work.blocks * static_cast<double>(p.layout.head_bytes()) / timed.seconds * 1e-9,
                  per_query * static_cast<double>(n), timed.seconds / causal, cache / (1 << 20));
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr,
                 "bench_plans --replay FILE [--threads N] [--seconds S] [--isa NAME]\n"
                 "bench_plans --zoo [--masks A,B] [--lengths N,N] [--heads QxKVxDIM] [--type NAME] [--rows N]\n"
                 "            [--threads N] [--seconds S] [--isa NAME]\n");
    return 2;
  }
  if (!s.isa.empty() && !kernels::set_isa(s.isa).has_value()) {
    std::fprintf(stderr, "bench_plans: --isa %s: not on this machine\n", s.isa.c_str());
    return 2;
  }
  return s.zoo ? run_zoo(s) : replay(s);
}
