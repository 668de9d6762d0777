// oneDNN's matrix products beside ours at the shapes of a prompt, and whether a row of theirs depends on other rows.
//
//   bench_onednn --library libdnnl.so.3 [--isa NAME] [--rows 512] [--threads 1] [--seconds 0.3]
//                [--shape COLSxROWS | --model FILE]
//
// For each shape: ours (rounding of activations included) for some formats, then oneDNN in f32, bf16, u8 x s8 and
// s8 x s8 with 32-bit sums (inputs already converted, weights already in the layout that it asks for: what it would do
// at best). "rows depend" counts products of fewer rows whose rows differ in bits from those of the whole: our kernels
// promise that there are none (matmul.hpp), or else the chunks of a prompt would show in its result. "wrong" counts
// integer products that differ from exact ones.
// With --model, instead: all matrices of a model's layers, ours as the file has them, theirs as u8 x s8, and the speed
// of both over all of them.
// The library (3.x; bench/fetch_peers.py onednn) is loaded at run time through its C interface, declared below as far
// as it is used, so that nothing of it is needed to build. A figure is the best of several runs.
#include <dlfcn.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "ggufish/model_file.hpp"
#include "quant/format.hpp"
#include "quant/half.hpp"
#include "src/base/cpu.hpp"
#include "src/base/file.hpp"
#include "src/kernels/matmul.hpp"
#include "src/kernels/ops.hpp"

using namespace lcrun;

namespace {

// --- the library -------------------------------------------------------------------------------------------------
enum Type : int { kBF16 = 2, kF32 = 3, kS32 = 4, kS8 = 5, kU8 = 6 };
enum Argument : int { kFrom = 1, kSource = 1, kTo = 17, kTarget = 17, kWeights = 33 };
constexpr int kCpu = 1;
constexpr unsigned kInOrder = 1;
constexpr int kAnyLayout = 1;
constexpr int kQueryImplementation = 8;
constexpr int kQueryWeights = 131;

using Handle = void*;
struct ExecArgument {
  int argument;
  Handle memory;
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "bench_onednn: %s\n", what.c_str());
  std::exit(1);
}

class OneDnn {
 public:
  explicit OneDnn(const char* path) : library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) fail(dlerror());
    // Version 2 has other signatures under the same names.
    if (dlsym(library_, "dnnl_memory_desc_create_with_strides") == nullptr) fail("wanted version 3 of the library");
    call("dnnl_engine_create", &engine_, kCpu, size_t{0});
    call("dnnl_stream_create", &stream_, engine_, kInOrder);
  }

  // The types of the arguments must be those of the C declaration.
  template <class R, class... Args>
  R function(const char* name, Args... args) const {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) fail(std::string("the library has no ") + name);
    R (*entry)(Args...) = nullptr;
    std::memcpy(&entry, &symbol, sizeof(symbol));
    return entry(args...);
  }
  // Most functions return a status, 0 for success.
  template <class... Args>
  void call(const char* name, Args... args) const {
    if (const int status = function<int>(name, args...); status != 0) {
      fail(std::string(name) + ": status " + std::to_string(status));
    }
  }

  Handle engine() const { return engine_; }

  Handle matrix(int64_t rows, int64_t cols, Type type, bool any_layout = false) const {
    const int64_t dims[12] = {rows, cols};
    const int64_t strides[12] = {cols, 1};
    Handle desc = nullptr;
    if (any_layout)
      call<Handle*, int, const int64_t*, int, int>("dnnl_memory_desc_create_with_tag", &desc, 2, dims, type,
                                                   kAnyLayout);
    else
      call<Handle*, int, const int64_t*, int, const int64_t*>("dnnl_memory_desc_create_with_strides", &desc, 2, dims,
                                                              type, strides);
    return desc;
  }

  Handle memory(Handle desc, void* data) const {
    Handle found = nullptr;
    call("dnnl_memory_create", &found, desc, engine_, data);
    return found;
  }

  void execute(Handle primitive, const std::vector<ExecArgument>& arguments) const {
    call<Handle, Handle, int, const ExecArgument*>("dnnl_primitive_execute", primitive, stream_,
                                                   static_cast<int>(arguments.size()), arguments.data());
    call("dnnl_stream_wait", stream_);
  }

 private:
  void* library_;
  Handle engine_ = nullptr;
  Handle stream_ = nullptr;
};

// --- one product of the library ----------------------------------------------------------------------------------
struct Kind {
  const char* name;
  Type input, weights, output;
};
constexpr Kind kKinds[] = {
    {"f32", kF32, kF32, kF32}, {"bf16", kBF16, kBF16, kF32}, {"u8 x s8", kU8, kS8, kS32}, {"s8 x s8", kS8, kS8, kS32}};

size_t bytes_of(Type type) { return type == kF32 || type == kS32 ? 4 : type == kBF16 ? 2 : 1; }

// Values of a type from a fixed sequence: over the whole range of the integers, so that sums that saturate show.
std::vector<std::byte> values_of(Type type, int64_t n, uint32_t state) {
  std::vector<std::byte> bytes(static_cast<size_t>(n) * bytes_of(type));
  for (int64_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    std::byte* at = bytes.data() + static_cast<size_t>(i) * bytes_of(type);
    const float value = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    const uint16_t half = quant::f32_to_bf16(value);
    if (type == kF32)
      std::memcpy(at, &value, sizeof(value));
    else if (type == kBF16)
      std::memcpy(at, &half, sizeof(half));
    else
      *at = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

// [rows, k] x [k, n]. Handles live as long as the process, which is short.
class Product {
 public:
  Product(const OneDnn& dnn, const Kind& kind, int64_t rows, int64_t k, int64_t n, void* x, void* w, void* y)
      : dnn_(dnn) {
    const Handle source = dnn.matrix(rows, k, kind.input);
    const Handle target = dnn.matrix(rows, n, kind.output);
    const Handle plain = dnn.matrix(k, n, kind.weights);
    const Handle none = nullptr;
    Handle desc = nullptr;
    const int status = dnn.function<int>("dnnl_matmul_primitive_desc_create", &desc, dnn.engine(), source,
                                         dnn.matrix(k, n, kind.weights, true), none, target, none);
    if (status != 0) return;
    const char* name = "";
    dnn.call("dnnl_primitive_desc_query", desc, kQueryImplementation, 0, static_cast<void*>(&name));
    implementation_ = name;
    dnn.call("dnnl_primitive_create", &primitive_, desc);
    const auto wanted = dnn.function<Handle>("dnnl_primitive_desc_query_md", desc, kQueryWeights, 0);
    const size_t bytes = dnn.function<size_t>("dnnl_memory_desc_get_size", wanted);
    weights_.resize(bytes / sizeof(weights_[0]) + 1);
    const Handle packed = dnn.memory(wanted, weights_.data());
    Handle reorder_desc = nullptr;
    Handle reorder = nullptr;
    dnn.call("dnnl_reorder_primitive_desc_create", &reorder_desc, plain, dnn.engine(), wanted, dnn.engine(), none);
    dnn.call("dnnl_primitive_create", &reorder, reorder_desc);
    dnn.execute(reorder, {{kFrom, dnn.memory(plain, w)}, {kTo, packed}});
    arguments_ = {{kSource, dnn.memory(source, x)}, {kWeights, packed}, {kTarget, dnn.memory(target, y)}};
  }
  void run() const { dnn_.execute(primitive_, arguments_); }
  const std::string& implementation() const { return implementation_; }
  bool is_supported() const { return primitive_ != nullptr; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  const OneDnn& dnn_;
  Handle primitive_ = nullptr;
  std::vector<Line> weights_;
  std::vector<ExecArgument> arguments_;
  std::string implementation_;
};

// --- measuring ---------------------------------------------------------------------------------------------------
struct Shape {
  int64_t cols;
  int64_t rows;
};

struct Settings {
  const char* library = nullptr;
  std::string isa;
  int64_t rows = 512;
  int threads = 1;
  double seconds = 0.3;
  std::string model;
  // SmolLM2-135M and Gemma-3-270M: q (and output), k or v, up, down, and a large one that both would be good at.
  std::vector<Shape> shapes{{576, 576},  {576, 192},  {576, 1536}, {1536, 576}, {640, 1024},
                            {1024, 640}, {640, 2048}, {2048, 640}, {4096, 4096}};
};

bool parse(int argc, char** argv, Settings& s) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--library")
      s.library = value;
    else if (name == "--isa")
      s.isa = value;
    else if (name == "--rows")
      s.rows = std::max(1LL, std::atoll(value));
    else if (name == "--threads")
      s.threads = std::max(1, std::atoi(value));
    else if (name == "--seconds")
      s.seconds = std::atof(value);
    else if (name == "--model")
      s.model = value;
    else if (name == "--shape" && std::strchr(value, 'x') != nullptr)
      s.shapes = {{std::atoll(value), std::atoll(std::strchr(value, 'x') + 1)}};
    else
      return false;
  }
  return argc % 2 == 1 && s.library != nullptr;
}

// With one thread, its processor time: what others on the machine do then hardly shows.
double now(int threads) {
  if (threads > 1) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class Body>
double best_seconds(const Settings& s, Body body) {
  double best = 1e30;
  const double end = now(s.threads) + s.seconds;
  for (int run = 0; run < 5 || now(s.threads) < end; ++run) {
    const double start = now(s.threads);
    body();
    best = std::min(best, now(s.threads) - start);
  }
  return best;
}

double gops(const Settings& s, const Shape& shape, double seconds) {
  return 2e-9 * static_cast<double>(s.rows) * static_cast<double>(shape.cols * shape.rows) / seconds;
}

// Seconds of one product with activations that are rounded anew each time.
double time_ours(const Settings& s, const TensorView& view) {
  const auto weights = kernels::Weights::prepare(view, s.threads);
  kernels::Activations activations;
  if (!weights.has_value() || !activations.reserve(s.rows, view.cols()).has_value()) fail("no weights");
  const auto bytes = values_of(kF32, s.rows * view.cols(), 1);
  std::vector<float> x(bytes.size() / sizeof(float));
  std::memcpy(x.data(), bytes.data(), bytes.size());
  std::vector<float> y(static_cast<size_t>(s.rows * view.rows()));
  const kernels::MatmulJob job{&*weights, MatView{y.data(), s.rows, view.rows(), view.rows()}, nullptr};
  return best_seconds(s, [&] {
    activations.set(MatView{x.data(), s.rows, view.cols(), view.cols()});
    kernels::matmul({&job, 1}, activations, s.threads);
  });
}

// Returns GOP/s, 0 where the shape has no whole blocks.
double bench_ours(const Settings& s, const Shape& shape, const quant::QuantOps& ops) {
  const quant::TypeInfo& type = *quant::find_type(ops.dtype);
  if (shape.cols % type.block_size != 0) return 0.0;
  const auto bytes = values_of(kF32, shape.rows * shape.cols, 3);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  TensorView view;
  view.dtype = ops.dtype;
  view.ne = {shape.cols, shape.rows, 1, 1};
  view.row_bytes = quant::row_bytes(type, shape.cols);
  view.size_bytes = view.row_bytes * static_cast<uint64_t>(shape.rows);
  std::vector<std::byte> native(view.size_bytes);
  for (int64_t r = 0; r < shape.rows; ++r) {
    ops.quantize(values.data() + r * shape.cols, shape.cols, native.data() + static_cast<uint64_t>(r) * view.row_bytes);
  }
  view.data = native.data();
  const double seconds = time_ours(s, view);
  std::printf("  lcrun %-10s %-8s %10.1f us %8.1f GOP/s\n", std::string(kernels::active_isa()).c_str(), type.name,
              seconds * 1e6, gops(s, shape, seconds));
  return gops(s, shape, seconds);
}

// Elements of the first 8 rows that are not the exact sums of products.
int64_t wrong_sums(const Kind& kind, const Shape& shape, const std::byte* x, const std::byte* w, const std::byte* y) {
  int64_t wrong = 0;
  for (int64_t r = 0; r < 8; ++r) {
    for (int64_t n = 0; n < shape.rows; ++n) {
      int32_t sum = 0;
      for (int64_t k = 0; k < shape.cols; ++k) {
        const auto raw = static_cast<uint8_t>(x[r * shape.cols + k]);
        const int32_t input = kind.input == kU8 ? raw : static_cast<int8_t>(raw);
        sum += input * static_cast<int8_t>(w[k * shape.rows + n]);
      }
      int32_t found = 0;
      std::memcpy(&found, y + (r * shape.rows + n) * 4, 4);
      wrong += found != sum;
    }
  }
  return wrong;
}

// Returns GOP/s, 0 where there is no such product.
double bench_theirs(const Settings& s, const OneDnn& dnn, const Shape& shape, const Kind& kind) {
  auto x = values_of(kind.input, s.rows * shape.cols, 1);
  auto w = values_of(kind.weights, shape.cols * shape.rows, 2);
  std::vector<std::byte> y(static_cast<size_t>(s.rows * shape.rows) * 4);
  const Product whole(dnn, kind, s.rows, shape.cols, shape.rows, x.data(), w.data(), y.data());
  if (!whole.is_supported()) {
    std::printf("  oneDNN %-18s not implemented on this processor\n", kind.name);
    return 0.0;
  }
  const double seconds = best_seconds(s, [&] { whole.run(); });
  std::string depend;
  for (const int64_t rows : {1, 2, 7, 16, 33, 64, 100, 128, 256, 511}) {
    if (rows >= s.rows) continue;
    std::vector<std::byte> part(static_cast<size_t>(rows * shape.rows) * 4);
    Product(dnn, kind, rows, shape.cols, shape.rows, x.data(), w.data(), part.data()).run();
    if (std::memcmp(part.data(), y.data(), part.size()) != 0) depend.append(" ").append(std::to_string(rows));
  }
  std::printf("  oneDNN %-18s %10.1f us %8.1f GOP/s  %-24s", kind.name, seconds * 1e6, gops(s, shape, seconds),
              whole.implementation().c_str());
  if (kind.output == kS32 && s.rows >= 8) {
    const int64_t wrong = wrong_sums(kind, shape, x.data(), w.data(), y.data());
    std::printf(" wrong: %lld of %lld;", static_cast<long long>(wrong), static_cast<long long>(8 * shape.rows));
  }
  std::printf(" rows depend at M:%s\n", depend.empty() ? " none" : depend.c_str());
  std::fflush(stdout);
  return gops(s, shape, seconds);
}

void bench_shape(const Settings& s, const OneDnn& dnn, const Shape& shape) {
  constexpr DType kFormats[] = {DType::kQ4_1, DType::kQ8_0, DType::kQ5_0, DType::kQ4_K, DType::kQ6_K};
  std::printf("%lld x %lld\n", static_cast<long long>(shape.cols), static_cast<long long>(shape.rows));
  std::vector<std::pair<std::string, double>> ours;
  for (const std::string& isa : kernels::available_isas()) {
    if (s.isa.empty() ? isa == "scalar" : isa != s.isa) continue;
    if (!kernels::set_isa(isa).has_value()) fail("no such instruction set here");
    for (const DType dtype : kFormats) {
      const double speed = bench_ours(s, shape, *quant::find_ops(dtype));
      if (speed > 0) ours.emplace_back(isa + " " + quant::type_name(dtype), speed);
    }
  }
  double int8 = 0;
  for (const Kind& kind : kKinds) {
    const double speed = bench_theirs(s, dnn, shape, kind);
    if (kind.input == kU8) int8 = speed;
  }
  if (int8 <= 0) return;
  std::printf("  of oneDNN's u8 x s8:");
  for (const auto& [name, speed] : ours) std::printf(" %s %.2f;", name.c_str(), speed / int8);
  std::printf("\n");
}

// --- the layers of a model ---------------------------------------------------------------------------------------
struct Layers {
  TensorView view;
  int count;
};

// Matrices of the layers, those of one shape and format together.
std::vector<Layers> layers_of(const ggufish::ModelFile& file) {
  std::vector<Layers> found;
  for (const auto& tensor : file.tensors()) {
    const TensorView& view = tensor.view;
    if (tensor.name.rfind("blk.", 0) != 0 || view.rows() < 2 || view.ne[2] * view.ne[3] > 1) continue;
    const auto at = std::find_if(found.begin(), found.end(), [&](const Layers& other) {
      return other.view.dtype == view.dtype && other.view.ne == view.ne;
    });
    at == found.end() ? found.push_back({view, 1}) : void(++at->count);
  }
  return found;
}

double time_int8(const Settings& s, const OneDnn& dnn, const Shape& shape) {
  const Kind& kind = kKinds[2];
  auto x = values_of(kind.input, s.rows * shape.cols, 1);
  auto w = values_of(kind.weights, shape.cols * shape.rows, 2);
  std::vector<std::byte> y(static_cast<size_t>(s.rows * shape.rows) * 4);
  const Product product(dnn, kind, s.rows, shape.cols, shape.rows, x.data(), w.data(), y.data());
  if (!product.is_supported()) fail("no product of u8 and s8 on this processor");
  return best_seconds(s, [&] { product.run(); });
}

void bench_model(const Settings& s, const OneDnn& dnn) {
  const auto file = ggufish::ModelFile::open(s.model, ggufish::LoadMode::kMmap, posix_file_system());
  if (!file.has_value()) fail(file.error().message);
  if (!s.isa.empty() && !kernels::set_isa(s.isa).has_value()) fail("no such instruction set here");
  double ours = 0, theirs = 0, work = 0;
  for (const Layers& layers : layers_of(**file)) {
    const Shape shape{layers.view.cols(), layers.view.rows()};
    const double mine = time_ours(s, layers.view);
    const double other = time_int8(s, dnn, shape);
    std::printf("  %3d x %-5s %5lld x %-5lld: lcrun %7.1f GOP/s, oneDNN u8 x s8 %7.1f GOP/s: %.2f\n", layers.count,
                quant::type_name(layers.view.dtype).c_str(), static_cast<long long>(shape.cols),
                static_cast<long long>(shape.rows), gops(s, shape, mine), gops(s, shape, other), other / mine);
    std::fflush(stdout);
    ours += layers.count * mine;
    theirs += layers.count * other;
    work += 2e-9 * layers.count * static_cast<double>(s.rows * shape.cols * shape.rows);
  }
  if (work <= 0) fail("no matrices in the file");
  std::printf("  all of them, %s: lcrun %.1f GOP/s, oneDNN u8 x s8 %.1f GOP/s: ratio %.2f\n",
              std::string(kernels::active_isa()).c_str(), work / ours, work / theirs, theirs / ours);
}

}  // namespace

int main(int argc, char** argv) {
  Settings s;
  if (!parse(argc, argv, s)) {
    std::fprintf(stderr,
                 "bench_onednn --library libdnnl.so.3 [--isa NAME] [--rows 512] [--threads 1] [--seconds 0.3] "
                 "[--shape COLSxROWS | --model FILE]\n");
    return 2;
  }
  omp_set_num_threads(s.threads);
  const OneDnn dnn(s.library);
  std::printf("# %s, %lld rows, %d threads\n", cpu_model_name().c_str(), static_cast<long long>(s.rows), s.threads);
  if (!s.model.empty()) {
    bench_model(s, dnn);
    return 0;
  }
  for (const Shape& shape : s.shapes) bench_shape(s, dnn, shape);
  return 0;
}
