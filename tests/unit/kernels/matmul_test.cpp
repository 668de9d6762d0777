// Products of prepared weights against double precision, for every format on every instruction set, and the laws that
// a row's bits depend on nothing but the row.
#include "src/kernels/matmul.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "quant/format.hpp"
#include "src/base/cpu.hpp"
#include "src/kernels/kernels.hpp"
#include "tests/support/emulated_amx.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_weights.hpp"

using namespace lcrun;
using namespace lcrun::kernels;
using lcrun::test::Random;
using lcrun::test::random_weights;
using lcrun::test::RandomWeights;

namespace {

// Runs a body on the emulation of tile instructions.
template <class Body>
void run_emulated(const lcrun::test::EmulatedAmx& emulated, Body body) {
  const Kernels& before = active();
  Kernels table = before;
  table.name = emulated.name;
  table.matmul = emulated.matmul;
  set_table(table);
  INFO("isa " << emulated.name);
  body(std::string(emulated.name));
  set_table(before);
  REQUIRE_FALSE(emulated.misused.load());
}

// Every table that runs here, and those for AMX over emulated tiles.
template <class Body>
void for_each_isa(Body body) {
  lcrun::test::for_each_isa(body);
  run_emulated(emulated_amx::emulated, body);
#if defined(LCRUN_EMULATED_AMX_512)
  if (cpu_features().avx512vnni) run_emulated(emulated_amx_512::emulated, body);
#endif
}

struct Matrix {
  std::vector<float> values;
  MatView view;
  Matrix(int64_t rows, int64_t cols) : values(static_cast<size_t>(rows * cols), -7.0F) {
    view = {values.data(), rows, cols, cols};
  }
};

Matrix random_matrix(int64_t rows, int64_t cols, Random& random) {
  Matrix m(rows, cols);
  for (float& v : m.values) v = random.uniform(-1.0F, 1.0F) * random.uniform(0.0F, 2.0F);
  return m;
}

Weights prepare(const RandomWeights& source, int n_threads = 1) {
  auto weights = Weights::prepare(source.view, n_threads);
  REQUIRE(weights.has_value());
  return std::move(weights).value();
}

int64_t block_of(DType dtype) { return quant::find_type(dtype)->block_size; }

bool is_plain(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16; }

void multiply(std::span<const MatmulJob> jobs, const MatView& x, int n_threads) {
  Activations activations;
  REQUIRE(activations.reserve(x.rows, x.cols).has_value());
  activations.set(x);
  matmul(jobs, activations, n_threads);
}

Matrix multiply(const Weights& weights, const MatView& x, int n_threads = 1, const float* bias = nullptr) {
  Matrix y(x.rows, weights.rows());
  const MatmulJob job{&weights, y.view, bias};
  multiply({&job, 1}, x, n_threads);
  return y;
}

// What the kernels promise to see of a row: blocks of 32, or of the weights' 256, as d * q with d = max |x| / 127, q to
// nearest.
std::vector<double> quantized(const float* x, int64_t n, int64_t block) {
  std::vector<double> seen(static_cast<size_t>(n));
  for (int64_t first = 0; first < n; first += block) {
    const int64_t last = std::min<int64_t>(n, first + block);
    float largest = 0.0F;
    for (int64_t i = first; i < last; ++i) largest = std::fmax(largest, std::fabs(x[i]));
    for (int64_t i = first; i < last; ++i) {
      const float q = largest > 0.0F ? std::nearbyint(x[i] * (127.0F / largest)) : 0.0F;
      seen[static_cast<size_t>(i)] = static_cast<double>(largest / 127.0F) * static_cast<double>(q);
    }
  }
  return seen;
}

struct Product {
  double value;
  double norm;     // sum of |w| |x|: what rounding errors are relative to
  double squares;  // sum of (w x)^2: what random errors of the activations are relative to
};

Product exact_product(const std::vector<float>& w, const std::vector<double>& x) {
  Product p{0.0, 0.0, 0.0};
  for (size_t i = 0; i < w.size(); ++i) {
    p.value += static_cast<double>(w[i]) * x[i];
    p.norm += std::fabs(static_cast<double>(w[i]) * x[i]);
    p.squares += static_cast<double>(w[i]) * x[i] * static_cast<double>(w[i]) * x[i];
  }
  return p;
}

// Largest |got - exact| / norm over all outputs, and the relative error of the whole result to float activations.
void check_product(const RandomWeights& source, const Matrix& x, const Matrix& y, const float* bias = nullptr) {
  const bool plain = is_plain(source.view.dtype);
  double worst = 0.0;
  double left = 0.0;
  double total = 0.0;
  for (int64_t o = 0; o < source.view.rows(); ++o) {
    const std::vector<float> w = source.row(o);
    for (int64_t r = 0; r < x.view.rows; ++r) {
      const float* row = x.view.row(r);
      const std::vector<double> floats(row, row + x.view.cols);
      const Product seen = exact_product(w, plain ? floats : quantized(row, x.view.cols, block_of(source.view.dtype)));
      const Product wanted = exact_product(w, floats);
      const double added = bias != nullptr ? static_cast<double>(bias[o]) : 0.0;
      const double got = static_cast<double>(y.view.row(r)[o]) - added;
      worst = std::max(worst, std::fabs(got - seen.value) / (seen.norm + 1e-3 * std::fabs(added) + 1e-30));
      left += (got - wanted.value) * (got - wanted.value);
      total += wanted.squares;
    }
  }
  INFO(quant::type_name(source.view.dtype)
       << " " << x.view.rows << " x " << x.view.cols << " x " << source.view.rows());
  // Float sums of some 20 terms a step; formats with an offset add two large parts of opposite sign.
  CHECK(worst < 1e-5);
  // Activations of 8 bits: a step of max/127 leaves max/127/sqrt(12) a value, here some 0.5 % of its size.
  if (!plain && total > 0.0) CHECK(std::sqrt(left / total) < 0.02);
}

}  // namespace

TEST_CASE("products agree with double precision for every format and instruction set", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    Random random(static_cast<uint64_t>(ops.dtype) + 10);
    const int64_t cols = std::max<int64_t>(block_of(ops.dtype), 96) * 2;
    const RandomWeights source = random_weights(ops.dtype, 40, cols, random);
    const Weights weights = prepare(source);
    const Matrix x = random_matrix(21, cols, random);
    for_each_isa([&](const std::string&) { check_product(source, x, multiply(weights, x.view)); });
  }
}

TEST_CASE("any number of output rows and inputs is multiplied", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    Random random(static_cast<uint64_t>(ops.dtype) + 20);
    for (int64_t rows = 1; rows <= 17; ++rows) {
      const int64_t block = block_of(ops.dtype);
      const int64_t cols = block == 1 ? 3 * rows : block * (1 + rows % 3);
      const RandomWeights source = random_weights(ops.dtype, rows, cols, random);
      const Weights weights = prepare(source);
      const Matrix x = random_matrix(1 + rows % 5, cols, random);
      for_each_isa([&](const std::string&) { check_product(source, x, multiply(weights, x.view)); });
    }
  }
}

TEST_CASE("a row has the same bits alone, among other rows, and on any number of threads", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    Random random(static_cast<uint64_t>(ops.dtype) + 30);
    // 7 panels: tasks of 4 with 256 inputs, of 2 with 768.
    constexpr int64_t kOutputs = 101;
    const Matrix bias = random_matrix(1, kOutputs, random);
    for (const int64_t cols : {block_of(ops.dtype) == 1 ? int64_t{70} : int64_t{256}, int64_t{768}}) {
      const RandomWeights source = random_weights(ops.dtype, kOutputs, cols, random);
      const Weights weights = prepare(source, 2);
      const Matrix x = random_matrix(35, cols, random);
      const float* b = cols == 768 ? bias.values.data() : nullptr;
      for_each_isa([&](const std::string&) {
        std::vector<Matrix> alone;
        for (int64_t r = 0; r < x.view.rows; ++r) {
          alone.push_back(multiply(weights, MatView{x.view.row(r), 1, cols, cols}, 1, b));
        }
        for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 24, 31, 35}) {
          const Matrix y = multiply(weights, MatView{x.view.data, rows, cols, cols}, static_cast<int>(1 + rows % 3), b);
          for (int64_t r = 0; r < rows; ++r) {
            INFO(quant::type_name(ops.dtype) << ", row " << r << " of " << rows);
            const float* wanted = alone[static_cast<size_t>(r)].values.data();
            REQUIRE(std::memcmp(y.view.row(r), wanted, kOutputs * sizeof(float)) == 0);
          }
        }
      });
    }
  }
}

TEST_CASE("formats that need different sums of the activations have the same bits together as alone", "[matmul]") {
  Random random(77);
  const std::vector<DType> types{DType::kQ4_1, DType::kQ4_0, DType::kQ8_0, DType::kQ5_1, DType::kQ4_K,
                                 DType::kQ6_K, DType::kQ2_K, DType::kQ3_K, DType::kF16};
  const Matrix x = random_matrix(19, 256, random);
  std::vector<Weights> weights;
  for (const DType type : types) weights.push_back(prepare(random_weights(type, 24, 256, random), 1));
  for_each_isa([&](const std::string&) {
    Activations activations;
    REQUIRE(activations.reserve(x.view.rows, x.view.cols).has_value());
    activations.set(x.view);
    // One by one on the same activations, then all at once: sums that are there, are not there, and are there in part.
    std::vector<Matrix> outputs(2 * types.size(), Matrix(19, 24));
    std::vector<MatmulJob> jobs;
    for (size_t i = 0; i < types.size(); ++i) {
      outputs[i].view.data = outputs[i].values.data();
      const MatmulJob job{&weights[i], outputs[i].view, nullptr};
      matmul({&job, 1}, activations, 1);
    }
    for (size_t i = 0; i < types.size(); ++i) {
      Matrix& together = outputs[types.size() + i];
      together.view.data = together.values.data();
      jobs.push_back({&weights[i], together.view, nullptr});
    }
    matmul(jobs, activations, 2);
    for (size_t i = 0; i < types.size(); ++i) {
      INFO(quant::type_name(types[i]));
      const Matrix alone = multiply(weights[i], x.view);
      CHECK(outputs[i].values == alone.values);
      CHECK(outputs[types.size() + i].values == alone.values);
    }
  });
}

TEST_CASE("wide groups of rows are multiplied by tiles, and have the bits of the rows without", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    if (is_plain(ops.dtype)) continue;
    Random random(static_cast<uint64_t>(ops.dtype) + 35);
    const int64_t cols = 6 * 256;  // more than a chunk of unpacked steps
    const RandomWeights source = random_weights(ops.dtype, 37, cols, random);
    const Weights weights = prepare(source);
    const std::vector<float> bias = random.row(37);
    const Matrix x = random_matrix(43, cols, random);
    const auto& emulated = emulated_amx::emulated;
    run_emulated(emulated, [&](const std::string&) {
      INFO(quant::type_name(ops.dtype));
      const int64_t before = emulated.multiplications.load();
      Matrix without(43, 37);
      for (int64_t row = 0; row < 43; row += 7) {
        const int64_t rows = std::min<int64_t>(7, 43 - row);
        const Matrix part = multiply(weights, MatView{x.view.row(row), rows, cols, cols}, 1, bias.data());
        std::memcpy(without.view.row(row), part.values.data(), part.values.size() * sizeof(float));
      }
      REQUIRE(emulated.multiplications.load() == before);
      check_product(source, x, without, bias.data());
      REQUIRE(multiply(weights, x.view, 2, bias.data()).values == without.values);
      // 3 panels; 2 groups of 16 rows, and 8 of the last 11 unless there are planes to be made (8 tiles for 8 steps).
      const int64_t tiles = ops.packing.is_super() ? 3 * 48 * 2 : 3 * 48 * 3;
      REQUIRE(emulated.multiplications.load() - before == tiles);
    });
  }
}

TEST_CASE("large products split over threads have the bits of one thread", "[matmul]") {
  Random random(40);
  const RandomWeights source = random_weights(DType::kQ4_K, 700, 512, random);
  const Weights weights = prepare(source, 3);
  const Matrix x = random_matrix(150, 512, random);
  for_each_isa([&](const std::string&) {
    const Matrix one = multiply(weights, x.view, 1);
    for (int threads = 2; threads <= 4; ++threads) REQUIRE(multiply(weights, x.view, threads).values == one.values);
  });
}

TEST_CASE("all instruction sets agree", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    Random random(static_cast<uint64_t>(ops.dtype) + 50);
    const RandomWeights source = random_weights(ops.dtype, 48, 1024, random);
    const Weights weights = prepare(source);
    const Matrix x = random_matrix(9, 1024, random);
    std::vector<float> first;
    double size = 0.0;
    for_each_isa([&](const std::string&) {
      const Matrix y = multiply(weights, x.view);
      if (first.empty()) first = y.values;
      for (const float v : first) size = std::max(size, static_cast<double>(std::fabs(v)));
      for (size_t i = 0; i < first.size(); ++i) {
        INFO(quant::type_name(ops.dtype));
        // The scalar set rounds products before it adds them.
        REQUIRE(std::fabs(static_cast<double>(first[i]) - static_cast<double>(y.values[i])) < 1e-5 * size);
      }
    });
  }
}

TEST_CASE("several jobs share one activation, with bias and row strides", "[matmul]") {
  Random random(60);
  const RandomWeights a = random_weights(DType::kQ8_0, 35, 256, random);
  const RandomWeights b = random_weights(DType::kF16, 50, 256, random);
  const RandomWeights c = random_weights(DType::kQ6_K, 3, 256, random);
  const Weights wa = prepare(a), wb = prepare(b), wc = prepare(c);
  const Matrix x = random_matrix(18, 256, random);
  const std::vector<float> bias = random.row(50);
  for_each_isa([&](const std::string&) {
    Matrix ya(18, 35), yb(18, 50), wide(18, 20);
    const MatmulJob jobs[] = {{&wa, ya.view, nullptr},
                              {&wb, yb.view, bias.data()},
                              {&wc, MatView{wide.view.data + 4, 18, 3, 20}, bias.data()}};
    multiply(jobs, x.view, 2);
    check_product(a, x, ya);
    check_product(b, x, yb, bias.data());
    REQUIRE(ya.values == multiply(wa, x.view).values);
    REQUIRE(yb.values == multiply(wb, x.view, 1, bias.data()).values);
    const Matrix yc = multiply(wc, x.view, 1, bias.data());
    for (int64_t r = 0; r < 18; ++r) {
      REQUIRE(std::memcmp(wide.view.row(r) + 4, yc.view.row(r), 3 * sizeof(float)) == 0);
      REQUIRE(wide.view.row(r)[3] == -7.0F);  // nothing is written beside the result
      REQUIRE(wide.view.row(r)[7] == -7.0F);
    }
  });
}

TEST_CASE("zeros, tiny and huge activations are multiplied without surprises", "[matmul]") {
  Random random(70);
  const RandomWeights source = random_weights(DType::kQ4_1, 20, 64, random);
  const Weights weights = prepare(source);
  for_each_isa([&](const std::string&) {
    Matrix x(4, 64);
    for (int64_t c = 0; c < 64; ++c) {
      x.view.row(0)[c] = 0.0F;
      x.view.row(1)[c] = 1e-38F;
      x.view.row(2)[c] = 1e30F;
      x.view.row(3)[c] = c < 32 ? 1.0F : 0.0F;
    }
    const Matrix y = multiply(weights, x.view);
    for (int64_t o = 0; o < 20; ++o) {
      REQUIRE(y.view.row(0)[o] == 0.0F);
      REQUIRE(y.view.row(1)[o] == 0.0F);
      REQUIRE(std::isfinite(y.view.row(2)[o]));
    }
  });
}

TEST_CASE("NaN and infinity in an activation row make that row NaN and no other", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    if (is_plain(ops.dtype)) continue;
    Random random(static_cast<uint64_t>(ops.dtype) + 80);
    const RandomWeights source = random_weights(ops.dtype, 19, 256, random);
    const Weights weights = prepare(source);
    for_each_isa([&](const std::string&) {
      Matrix x = random_matrix(3, 256, random);
      const Matrix clean = multiply(weights, x.view);
      x.view.row(0)[100] = std::numeric_limits<float>::quiet_NaN();
      x.view.row(2)[3] = -std::numeric_limits<float>::infinity();
      const Matrix y = multiply(weights, x.view);
      for (int64_t o = 0; o < 19; ++o) {
        REQUIRE(std::isnan(y.view.row(0)[o]));
        REQUIRE(y.view.row(1)[o] == clean.view.row(1)[o]);
        REQUIRE(std::isnan(y.view.row(2)[o]));
      }
    });
  }
}

TEST_CASE("prepared weights take about the native size", "[matmul]") {
  for (const quant::QuantOps& ops : quant::all_ops()) {
    Random random(90);
    const RandomWeights source = random_weights(ops.dtype, 64, 2048, random);
    const Weights weights = prepare(source);
    INFO(quant::type_name(ops.dtype));
    REQUIRE(weights.rows() == 64);
    REQUIRE(weights.cols() == 2048);
    REQUIRE(weights.dtype() == ops.dtype);
    // Sub-scales of 6 bits take a byte, the exponents of MXFP4 two.
    REQUIRE(static_cast<double>(weights.memory_bytes()) < 1.06 * static_cast<double>(source.view.size_bytes));
    REQUIRE(weights.memory_bytes() >= source.view.size_bytes);
  }
}

TEST_CASE("matrices in an arena multiply like others and outlive it", "[matmul]") {
  Random random(95);
  std::vector<RandomWeights> sources;
  std::vector<Weights> kept;
  {
    WeightArena arena;
    for (const int64_t rows : {17, 3000, 64, 300000}) {  // the last is too large to share a piece
      sources.push_back(random_weights(DType::kQ4_0, rows, 64, random));
      auto weights = Weights::prepare(sources.back().view, 2, &arena);
      REQUIRE(weights.has_value());
      kept.push_back(std::move(weights).value());
    }
  }
  const Matrix x = random_matrix(2, 64, random);
  for (size_t i = 0; i < kept.size(); ++i) {
    REQUIRE(multiply(kept[i], x.view).values == multiply(prepare(sources[i]), x.view).values);
  }
}

TEST_CASE("weights that cannot be prepared are refused", "[matmul]") {
  std::vector<std::byte> bytes(1000);
  TensorView view;
  view.data = bytes.data();
  view.dtype = DType::kIQ2_XS;
  view.ne = {256, 2, 1, 1};
  REQUIRE(Weights::prepare(view, 1).error().code == Code::kUnsupported);
  view.dtype = DType::kQ4_K;
  view.row_bytes = 144;
  view.size_bytes = 287;
  REQUIRE(Weights::prepare(view, 1).error().code == Code::kInvalidArgument);
  view.size_bytes = 288;
  REQUIRE(Weights::prepare(view, 1).has_value());
  view.ne = {128, 2, 1, 1};
  REQUIRE(Weights::prepare(view, 1).error().code == Code::kInvalidArgument);
}
