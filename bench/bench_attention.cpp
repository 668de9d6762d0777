// Speed of attention: a batch of queries at the end of a cache of given depth, for cache types, head sizes, groups of
// query heads and instruction sets. One query is decoding (bound by reading the cache), many are prefill (bound by
// arithmetic); both are shown against a probe of that limit taken in the same process.
//
//   bench_attention [--isa NAME] [--type NAME] [--k NAME] [--v NAME] [--heads QxKVxDIM] [--depth N] [--rows N]
//                   [--window N] [--threads N] [--layers N] [--seconds S]
//
// --depth counts the keys before the batch. Layers are caches of the same contents at other addresses, visited in
// turns, so that a small cache does not stay in the processor's. Each figure is the best of several runs, in processor
// time with one thread. Output is one line each:
//   isa K/V heads depth rows threads: us a layer, GFLOP/s (share of the FMA probe), GB/s (share of the stream)
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "quant/format.hpp"
#include "src/attention/attention.hpp"
#include "src/base/check.hpp"
#include "src/base/cpu.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/ops.hpp"

using namespace lcrun;

namespace {

struct Heads {
  int64_t q;
  int64_t kv;
  int64_t dim;
};

struct Settings {
  std::string isa;
  std::string k_type, v_type;
  std::vector<Heads> heads{{9, 3, 64}, {4, 1, 256}, {8, 8, 80}, {8, 1, 96}, {32, 8, 128}};
  std::vector<int64_t> depths{512, 8192};
  std::vector<int64_t> rows{1, 512};
  int64_t window = 0;
  int64_t layers = 4;
  int threads = 1;
  double seconds = 0.5;
};

bool parse(int argc, char** argv, Settings& s) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    long long q, kv, dim;
    if (name == "--isa")
      s.isa = value;
    else if (name == "--type")
      s.k_type = s.v_type = value;
    else if (name == "--k")
      s.k_type = value;
    else if (name == "--v")
      s.v_type = value;
    else if (name == "--heads" && std::sscanf(value, "%lldx%lldx%lld", &q, &kv, &dim) == 3)
      s.heads = {{q, kv, dim}};
    else if (name == "--depth")
      s.depths = {std::atoll(value)};
    else if (name == "--rows")
      s.rows = {std::max(1LL, std::atoll(value))};
    else if (name == "--window")
      s.window = std::atoll(value);
    else if (name == "--layers")
      s.layers = std::max(1LL, std::atoll(value));
    else if (name == "--threads")
      s.threads = std::atoi(value);
    else if (name == "--seconds")
      s.seconds = std::atof(value);
    else
      return false;
  }
  return argc % 2 == 1;
}

// Cheap pseudo-random floats in [-1, 1).
void fill(std::vector<float>& x) {
  static uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
}

// With one thread, its processor time: what others on the machine do then hardly shows.
double now(int threads) {
  if (threads == 1) {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body>
double best_seconds(double budget, int threads, Body body) {
  double best = 1e30;
  const double end = now(threads) + budget;
  for (int run = 0; run < 3 || now(threads) < end; ++run) {
    const double start = now(threads);
    body();
    best = std::min(best, now(threads) - start);
  }
  return best;
}

// --- probes of the machine's limits --------------------------------------------------------------------------------

volatile float g_sink;  // keeps a probe's result from being optimised away

#if defined(__x86_64__)
constexpr int64_t kProbeSteps = 1 << 16;
constexpr int kChains = 12;

__attribute__((target("avx512f"))) double flops_512() {
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));  // equal chains would be merged
  const __m512 x = _mm512_set1_ps(0.5F);
  for (int64_t i = 0; i < kProbeSteps; ++i) {
    for (__m512& chain : acc) chain = _mm512_fmadd_ps(chain, x, x);
  }
  for (const __m512& chain : acc) g_sink = chain[0];
  return static_cast<double>(kProbeSteps * kChains * 2 * 16);
}
__attribute__((target("avx2,fma"))) double flops_256() {
  __m256 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 x = _mm256_set1_ps(0.5F);
  for (int64_t i = 0; i < kProbeSteps; ++i) {
    for (__m256& chain : acc) chain = _mm256_fmadd_ps(chain, x, x);
  }
  for (const __m256& chain : acc) g_sink = chain[0];
  return static_cast<double>(kProbeSteps * kChains * 2 * 8);
}
double run_flops(const std::string& isa) {
  if (isa.starts_with("avx512") || isa.starts_with("amx")) return flops_512();
  return isa.starts_with("avx") ? flops_256() : 0.0;
}
#else
double run_flops(const std::string&) { return 0.0; }
#endif

// GFLOP/s of fused multiply-adds in registers, all threads together; 0 where there is no probe.
double probe_flops(const std::string& isa, const Settings& s) {
  double ops = 0;
  const double seconds = best_seconds(0.05, s.threads, [&] {
    std::vector<double> each(static_cast<size_t>(s.threads));
    parallel_for(s.threads, s.threads, [&](int64_t task, int) { each[static_cast<size_t>(task)] = run_flops(isa); });
    ops = 0;
    for (const double part : each) ops += part;
  });
  return ops / seconds * 1e-9;
}

// GB/s of reading memory of `bytes` in order.
double probe_stream(uint64_t bytes, const Settings& s) {
  constexpr uint64_t kPart = 1 << 20;
  const std::vector<uint64_t> memory(std::max<uint64_t>(bytes, kPart) / 8, 1);
  const int64_t parts = static_cast<int64_t>(memory.size() * 8 / kPart);
  const double seconds = best_seconds(0.2, s.threads, [&] {
    parallel_for(s.threads, parts, [&](int64_t part, int) {
      const uint64_t* p = memory.data() + static_cast<uint64_t>(part) * (kPart / 8);
      std::array<uint64_t, 32> sums{};
      for (uint64_t i = 0; i < kPart / 8; i += sums.size()) {
        for (size_t j = 0; j < sums.size(); ++j) sums[j] += p[i + j];
      }
      for (const uint64_t sum : sums) g_sink = static_cast<float>(sum);
    });
  });
  return static_cast<double>(static_cast<uint64_t>(parts) * kPart) / seconds * 1e-9;
}

// --- the kernels ---------------------------------------------------------------------------------------------------

bool fill_cache(const attention::KvLayout& layout, int64_t n, std::vector<storage::Region>& layers) {
  storage::Region& first = layers.front();
  if (!first.reserve_rows(n).has_value()) return false;
  std::vector<float> k(static_cast<size_t>(layout.n_kv_heads * layout.k_dim));
  std::vector<float> v(static_cast<size_t>(layout.n_kv_heads * layout.v_dim));
  for (int64_t row = 0; row < n; ++row) {
    fill(k);
    fill(v);
    attention::encode_kv(layout, k.data(), v.data(), row % 64, first.block(row / 64));
  }
  first.commit_rows(n);
  for (size_t i = 1; i < layers.size(); ++i) {
    if (!layers[i].reserve_rows(n).has_value()) return false;
    for (int64_t b = 0; b * 64 < n; ++b) std::memcpy(layers[i].block(b), first.block(b), layout.block_bytes());
    layers[i].commit_rows(n);
  }
  return true;
}

struct Case {
  attention::AttnParams params;
  std::string types;
  int64_t depth;
  double stream;
};

void bench(const Settings& s, const Case& c, std::vector<storage::Region>& layers, int64_t rows) {
  const attention::AttnParams& p = c.params;
  const int64_t q_width = p.n_heads * p.layout.k_dim, o_width = p.n_heads * p.layout.v_dim;
  std::vector<float> q(static_cast<size_t>(rows * q_width)), o(static_cast<size_t>(rows * o_width));
  fill(q);
  Workspace scratch;
  if (!scratch.reserve(attention::attend_scratch_bytes(p, rows, s.threads)).has_value()) return;
  const double peak = probe_flops(std::string(kernels::active_isa()), s);
  const double seconds = best_seconds(s.seconds, s.threads,
                                      [&] {
                                        for (storage::Region& layer : layers) {
                                          const MatView query{q.data(), rows, q_width, q_width};
                                          const MatView out{o.data(), rows, o_width, o_width};
                                          const Status done =
                                              attention::attend(p, layer, c.depth, query, out, scratch, s.threads);
                                          LCRUN_CHECK(done.has_value());
                                          scratch.reset();
                                        }
                                      }) /
                         static_cast<double>(layers.size());
  const attention::Segment seen = attention::dense_segment(p, c.depth, rows);
  double pairs = 0;  // of a query and a key
  for (int64_t pos = c.depth; pos < c.depth + rows; ++pos) {
    pairs += static_cast<double>(p.window > 0 ? std::min(p.window, pos + 1) : pos + 1);
  }
  const double flops = pairs * static_cast<double>(2 * p.n_heads * (p.layout.k_dim + p.layout.v_dim)) / seconds * 1e-9;
  const double bytes = static_cast<double>(seen.end_row - seen.first_row) / 64.0 *
                       static_cast<double>(p.layout.block_bytes()) / seconds * 1e-9;
  std::printf(
      "%-10s %-9s %lldx%lldx%-3lld depth %-6lld rows %-4lld t %d: %10.1f us %7.1f GFLOP/s (%3.0f %%) "
      "%6.2f GB/s (%3.0f %%)\n",
      std::string(kernels::active_isa()).c_str(), c.types.c_str(), static_cast<long long>(p.n_heads),
      static_cast<long long>(p.layout.n_kv_heads), static_cast<long long>(p.layout.k_dim),
      static_cast<long long>(c.depth), static_cast<long long>(rows), s.threads, seconds * 1e6, flops,
      peak > 0 ? 100 * flops / peak : 0.0, bytes, 100 * bytes / c.stream);
  std::fflush(stdout);
}

int bench_cache(const Settings& s, const Heads& heads, int64_t depth, const std::string& k, const std::string& v) {
  const quant::TypeInfo* k_type = quant::find_type(std::string_view(k));
  const quant::TypeInfo* v_type = quant::find_type(std::string_view(v));
  if (k_type == nullptr || v_type == nullptr) return 2;
  Case c;
  c.params.layout = {heads.kv, heads.dim, heads.dim, k_type->dtype, v_type->dtype};
  if (!c.params.layout.check().has_value()) return 0;  // a quantised cache of a head that has no whole blocks
  c.params.n_heads = heads.q;
  c.params.scale = 0.3F;
  c.params.window = s.window;
  c.types = k + "/" + v;
  c.depth = depth;
  const int64_t n = depth + *std::max_element(s.rows.begin(), s.rows.end());
  std::vector<storage::Region> layers;
  for (int64_t i = 0; i < s.layers; ++i) {
    layers.emplace_back(storage::RegionSpec{storage::RegionKind::kAppend, "kv", c.params.layout.block_bytes(), 0});
  }
  if (!fill_cache(c.params.layout, n, layers)) return 1;
  c.stream = probe_stream(c.params.layout.block_bytes() * static_cast<uint64_t>(depth / 64 * s.layers), s);
  for (const std::string& isa : kernels::available_isas()) {
    if (s.isa.empty() ? isa == "scalar" : isa != s.isa) continue;
    if (!kernels::set_isa(isa).has_value()) return 1;
    for (const int64_t rows : s.rows) bench(s, c, layers, rows);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr,
                 "bench_attention [--isa NAME] [--type NAME] [--k NAME] [--v NAME] [--heads QxKVxDIM] [--depth N]\n"
                 "                [--rows N] [--window N] [--threads N] [--layers N] [--seconds S]\n");
    return 2;
  }
  std::printf("# %s, best of runs in %.1f s each\n", cpu_model_name().c_str(), s.seconds);
  for (const Heads& heads : s.heads) {
    for (const int64_t depth : s.depths) {
      for (const std::string type : {"f32", "f16", "bf16", "q8_0", "q4_0"}) {
        if (!s.k_type.empty() && type != "f16") continue;
        const std::string k = s.k_type.empty() ? type : s.k_type;
        const std::string v = s.v_type.empty() ? k : s.v_type;
        if (const int rc = bench_cache(s, heads, depth, k, v); rc != 0) return rc;
      }
    }
  }
  return 0;
}
