// Every operation on every instruction set against plain double-precision formulas.
#include "src/kernels/ops.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/support/isas.hpp"
#include "tests/support/random.hpp"

using namespace lcrun;
using kernels::Activation;
using test::for_each_isa;
using test::Random;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
// Lengths around the vector sizes (4, 8, 16) and their unrolled multiples.
const int64_t kLengths[] = {1, 3, 4, 7, 8, 15, 16, 17, 31, 64, 65, 100, 576, 1000};

double activation_reference(Activation act, double x) {
  switch (act) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kReluSquared:
      return x > 0 ? x * x : 0;
  }
  return 0;
}

const Activation kActivations[] = {Activation::kSilu, Activation::kGeluTanh, Activation::kGeluErf, Activation::kRelu,
                                   Activation::kReluSquared};

double mean_of(const std::vector<float>& x) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(v);
  return sum / static_cast<double>(x.size());
}

double mean_square_of(const std::vector<float>& x, double around) {
  double sum = 0;
  for (const float v : x) sum += (static_cast<double>(v) - around) * (static_cast<double>(v) - around);
  return sum / static_cast<double>(x.size());
}

void require_close(const std::vector<float>& found, const std::function<double(size_t)>& wanted, double relative,
                   double absolute) {
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double expected = wanted(i);
    const double error = std::abs(static_cast<double>(found[i]) - expected);
    const double bound = relative * std::abs(expected) + absolute;
    worst = std::isfinite(found[i]) ? std::max(worst, error / bound) : kInf;
  }
  REQUIRE(worst <= 1.0);
}

}  // namespace

TEST_CASE("rms_norm matches the formula, with and without weights and in place", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t n : kLengths) {
      Random random(static_cast<uint64_t>(n));
      const std::vector<float> x = random.row(n, -3, 3), w = random.row(n);
      std::vector<float> y(x.size());
      const double inverse = 1.0 / std::sqrt(mean_square_of(x, 0.0) + 1e-5);
      kernels::rms_norm(x.data(), w.data(), n, 1e-5F, y.data());
      require_close(
          y, [&](size_t i) { return double(x[i]) * inverse * double(w[i]); }, 2e-6, 1e-9);
      y = x;
      kernels::rms_norm(y.data(), nullptr, n, 1e-5F, y.data());
      require_close(
          y, [&](size_t i) { return double(x[i]) * inverse; }, 2e-6, 1e-9);
    }
  });
}

TEST_CASE("layer_norm matches the formula, with and without weight and bias", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t n : kLengths) {
      Random random(static_cast<uint64_t>(n) + 7);
      const std::vector<float> x = random.row(n, -1, 5), w = random.row(n), b = random.row(n);
      std::vector<float> y(x.size());
      const double mean = mean_of(x);
      const double inverse = 1.0 / std::sqrt(mean_square_of(x, mean) + 1e-5);
      kernels::layer_norm(x.data(), w.data(), b.data(), n, 1e-5F, y.data());
      // Cancellation of the mean: absolute error of some ulp of the largest element.
      require_close(
          y, [&](size_t i) { return (double(x[i]) - mean) * inverse * double(w[i]) + double(b[i]); }, 2e-6, 4e-6);
      y = x;
      kernels::layer_norm(y.data(), nullptr, nullptr, n, 1e-5F, y.data());
      require_close(
          y, [&](size_t i) { return (double(x[i]) - mean) * inverse; }, 2e-6, 4e-6);
    }
  });
}

TEST_CASE("activations match their formulas over the whole range", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const Activation act : kActivations) {
      std::vector<float> x;
      for (float v = -100.0F; v < 100.0F; v += 0.0137F) x.push_back(v);
      for (float v = -1e-3F; v < 1e-3F; v += 1.7e-5F) x.push_back(v);
      const std::vector<float> before = x;
      kernels::activate(act, x.data(), static_cast<int64_t>(x.size()));
      // erf is good to 3e-7 absolute, so GELU to 0.5 |x| 3e-7 where it is not flat; tanh alike.
      require_close(
          x, [&](size_t i) { return activation_reference(act, double(before[i])); }, 1e-6, 1.2e-6);
    }
  });
}

TEST_CASE("glu multiplies the activated gate by up", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const Activation act : kActivations) {
      for (const int64_t n : kLengths) {
        Random random(static_cast<uint64_t>(n) + 1);
        const std::vector<float> gate = random.row(n, -6, 6), up = random.row(n, -2, 2);
        std::vector<float> y = gate;
        kernels::glu(act, y.data(), up.data(), n);
        require_close(
            y, [&](size_t i) { return activation_reference(act, double(gate[i])) * double(up[i]); }, 2e-6, 2e-6);
      }
    }
  });
}

TEST_CASE("soft_cap is cap * tanh(x / cap), relatively exact near zero", "[kernels]") {
  for_each_isa([](const std::string&) {
    std::vector<float> x;
    for (float v = -400.0F; v < 400.0F; v += 0.173F) x.push_back(v);
    for (float v = 1e-6F; v < 50.0F; v *= 1.05F) x.push_back(v);
    const std::vector<float> before = x;
    kernels::soft_cap(x.data(), 30.0F, static_cast<int64_t>(x.size()));
    require_close(
        x, [&](size_t i) { return 30.0 * std::tanh(double(before[i]) / 30.0); }, 6e-7, 0.0);
  });
}

TEST_CASE("softmax sums to one and ignores minus infinity", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t n : kLengths) {
      Random random(static_cast<uint64_t>(n) + 3);
      std::vector<float> x = random.row(n, -30, 30);
      if (n > 3) x[2] = -kInf;
      const std::vector<float> before = x;
      double top = -1e30, total = 0;
      for (const float v : before) top = std::max(top, double(v));
      for (const float v : before) total += std::exp(double(v) - top);
      kernels::softmax(x.data(), n);
      require_close(
          x, [&](size_t i) { return std::exp(double(before[i]) - top) / total; }, 3e-6, 1e-37);
      if (n > 3) REQUIRE(x[2] == 0.0F);
    }
  });
}

TEST_CASE("softmax of a row that is masked throughout is zero", "[kernels]") {
  for_each_isa([](const std::string&) {
    std::vector<float> x(37, -kInf);
    kernels::softmax(x.data(), 37);
    for (const float v : x) REQUIRE(v == 0.0F);
  });
}

TEST_CASE("log_sum_exp keeps double accuracy on large vocabularies", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t n : {int64_t{1}, int64_t{33}, int64_t{262144}}) {
      Random random(static_cast<uint64_t>(n) + 9);
      const std::vector<float> x = random.row(n, -20, 12);
      double total = 0;
      for (const float v : x) total += std::exp(double(v));
      REQUIRE(kernels::log_sum_exp(x.data(), n) == Approx(std::log(total)).epsilon(0).margin(5e-7));
    }
    const std::vector<float> masked(5, -kInf);
    REQUIRE(kernels::log_sum_exp(masked.data(), 5) == -static_cast<double>(kInf));
  });
}

TEST_CASE("dot, max_value, scale and add_scaled match plain loops", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t n : kLengths) {
      Random random(static_cast<uint64_t>(n) + 5);
      const std::vector<float> a = random.row(n), b = random.row(n);
      double dot = 0;
      float top = -kInf;
      for (size_t i = 0; i < a.size(); ++i) {
        dot += double(a[i]) * double(b[i]);
        top = std::max(top, a[i]);
      }
      REQUIRE(double(kernels::dot(a.data(), b.data(), n)) == Approx(dot).epsilon(0).margin(1e-7 * double(n) + 1e-7));
      REQUIRE(kernels::max_value(a.data(), n) == top);
      std::vector<float> y = a;
      kernels::add_scaled(y.data(), b.data(), 0.7F, n);
      require_close(
          y, [&](size_t i) { return double(a[i]) + double(b[i]) * double(0.7F); }, 1e-6, 2e-7);
      y = a;
      kernels::scale(y.data(), -2.5F, n);
      require_close(
          y, [&](size_t i) { return double(a[i]) * -2.5; }, 1e-7, 0);
    }
  });
}

TEST_CASE("rope rotates pairs of both styles and leaves the rest of a head alone", "[kernels]") {
  const int64_t shapes[][2] = {{64, 64}, {80, 80}, {80, 20}, {256, 256}, {6, 2}};
  for_each_isa([&](const std::string&) {
    for (const auto& shape : shapes) {
      const int64_t head_dim = shape[0], n_rot = shape[1], n_heads = 3;
      Random random(static_cast<uint64_t>(head_dim + n_rot));
      const std::vector<float> x = random.row(n_heads * head_dim);
      std::vector<float> cos_sin;
      for (int64_t i = 0; i < n_rot / 2; ++i) {
        const double angle = 1234.0 * std::pow(10000.0, -2.0 * double(i) / double(n_rot));
        cos_sin.push_back(static_cast<float>(std::cos(angle)));
        cos_sin.push_back(static_cast<float>(std::sin(angle)));
      }
      for (const bool neox : {false, true}) {
        std::vector<double> wanted(x.begin(), x.end());
        for (int64_t h = 0; h < n_heads; ++h) {
          for (int64_t i = 0; i < n_rot / 2; ++i) {
            const size_t first = static_cast<size_t>(h * head_dim + (neox ? i : 2 * i));
            const size_t second = static_cast<size_t>(h * head_dim + (neox ? i + n_rot / 2 : 2 * i + 1));
            const double c = double(cos_sin[static_cast<size_t>(2 * i)]);
            const double s = double(cos_sin[static_cast<size_t>(2 * i + 1)]);
            wanted[first] = double(x[first]) * c - double(x[second]) * s;
            wanted[second] = double(x[first]) * s + double(x[second]) * c;
          }
        }
        std::vector<float> y = x;
        kernels::rope(y.data(), n_heads, head_dim, n_rot, cos_sin.data(), neox);
        require_close(
            y, [&](size_t i) { return wanted[i]; }, 1e-6, 2e-7);
      }
    }
  });
}
