// Speed of matrix products: giga-operations a second (a multiply-add is two) for each format, instruction set, shape
// and number of activation rows, and for few rows the bytes of prepared weights read a second.
//
//   bench_matmul [--isa NAME] [--type NAME] [--rows M] [--threads N] [--shape COLSxROWS] [--seconds S]
//
// Each figure is the best of several runs (others on the machine only slow a run down). Output is one line each:
//   isa type cols x rows M threads: microseconds, GOP/s, GB/s of weights
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "src/base/cpu.hpp"
#include "src/base/parallel.hpp"
#include "src/kernels/matmul.hpp"
#include "src/kernels/ops.hpp"

using namespace lcrun;

namespace {

struct Shape {
  int64_t cols;
  int64_t rows;
};

struct Settings {
  std::string isa;
  std::string type;
  std::vector<int64_t> batch{1, 8, 64, 512};
  std::vector<Shape> shapes{{576, 1536}, {1536, 576}, {576, 49152}, {640, 2048}, {2048, 640}, {640, 262144}};
  int threads = 1;
  double seconds = 0.3;
};

bool parse(int argc, char** argv, Settings& s) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--isa")
      s.isa = value;
    else if (name == "--type")
      s.type = value;
    else if (name == "--rows")
      s.batch = {std::atoll(value)};
    else if (name == "--threads")
      s.threads = std::atoi(value);
    else if (name == "--seconds")
      s.seconds = std::atof(value);
    else if (name == "--shape" && std::strchr(value, 'x') != nullptr)
      s.shapes = {{std::atoll(value), std::atoll(std::strchr(value, 'x') + 1)}};
    else
      return false;
  }
  return argc % 2 == 1;
}

// Cheap pseudo-random floats around zero.
void fill(std::vector<float>& x) {
  uint32_t state = 1;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f) * 0.1f;
  }
}

// A matrix of the type made of rows that repeat after 64, so that wide ones are made quickly.
std::vector<std::byte> make_weights(const quant::QuantOps& ops, const Shape& shape, TensorView& view) {
  const quant::TypeInfo& type = *quant::find_type(ops.dtype);
  view.dtype = ops.dtype;
  view.ne = {shape.cols, shape.rows, 1, 1};
  view.row_bytes = quant::row_bytes(type, shape.cols);
  view.size_bytes = view.row_bytes * static_cast<uint64_t>(shape.rows);
  std::vector<std::byte> bytes(view.size_bytes);
  const int64_t distinct = std::min<int64_t>(64, shape.rows);
  const size_t repeat = view.row_bytes * static_cast<size_t>(distinct);
  if (ops.quantize != nullptr) {
    std::vector<float> values(static_cast<size_t>(distinct * shape.cols));
    fill(values);
    for (int64_t r = 0; r < distinct; ++r) {
      std::byte* row = bytes.data() + static_cast<uint64_t>(r) * view.row_bytes;
      ops.quantize(values.data() + r * shape.cols, shape.cols, row);
    }
  } else {
    for (size_t i = 0; i < repeat; ++i) bytes[i] = static_cast<std::byte>((i * 37) & 0x3b);
  }
  for (size_t at = repeat; at < bytes.size(); ++at) bytes[at] = bytes[at - repeat];
  view.data = bytes.data();
  return bytes;
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
  for (int run = 0; run < 5 || now(threads) < end; ++run) {
    const double start = now(threads);
    body();
    best = std::min(best, now(threads) - start);
  }
  return best;
}

void bench(const Settings& s, const kernels::Weights& weights, int64_t batch) {
  std::vector<float> x(static_cast<size_t>(batch * weights.cols()));
  std::vector<float> y(static_cast<size_t>(batch * weights.rows()));
  fill(x);
  const MatView in{x.data(), batch, weights.cols(), weights.cols()};
  kernels::Activations activations;
  if (!activations.reserve(batch, weights.cols()).has_value()) return;
  const kernels::MatmulJob job{&weights, MatView{y.data(), batch, weights.rows(), weights.rows()}, nullptr};
  const double seconds = best_seconds(s.seconds, s.threads, [&] {
    activations.set(in);
    kernels::matmul({&job, 1}, activations, s.threads);
  });
  const double ops = 2.0 * static_cast<double>(batch) * static_cast<double>(weights.rows() * weights.cols());
  std::printf("%-10s %-6s %5lld x %-6lld M %-4lld t %d: %10.1f us %8.1f GOP/s %7.1f GB/s\n",
              std::string(kernels::active_isa()).c_str(), quant::type_name(weights.dtype()).c_str(),
              static_cast<long long>(weights.cols()), static_cast<long long>(weights.rows()),
              static_cast<long long>(batch), s.threads, seconds * 1e6, ops / seconds * 1e-9,
              static_cast<double>(weights.memory_bytes()) / seconds * 1e-9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr,
                 "bench_matmul [--isa NAME] [--type NAME] [--rows M] [--threads N] [--shape COLSxROWS] "
                 "[--seconds S]\n");
    return 2;
  }
  std::printf("# %s, best of runs in %.1f s each\n", cpu_model_name().c_str(), s.seconds);
  for (const quant::QuantOps& ops : quant::all_ops()) {
    const quant::TypeInfo& type = *quant::find_type(ops.dtype);
    if (!s.type.empty() && quant::find_type(std::string_view(s.type)) != &type) continue;
    for (Shape shape : s.shapes) {
      shape.cols = (shape.cols + type.block_size - 1) / type.block_size * type.block_size;
      TensorView view;
      const std::vector<std::byte> bytes = make_weights(ops, shape, view);
      const double start = now(s.threads);
      const auto weights = kernels::Weights::prepare(view, s.threads);
      if (!weights.has_value()) return 1;
      const double took = now(s.threads) - start;
      std::printf("# prepare %s: %.0f MB/s\n", type.name, static_cast<double>(view.size_bytes) / took * 1e-6);
      for (const std::string& isa : kernels::available_isas()) {
        if (s.isa.empty() ? isa == "scalar" : isa != s.isa) continue;
        if (!kernels::set_isa(isa).has_value()) return 1;
        for (const int64_t batch : s.batch) bench(s, *weights, batch);
      }
    }
  }
  return 0;
}
