// Recurrent steps on every instruction set against the formulas of ops.hpp in double, over several tokens.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "src/kernels/ops.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/random.hpp"

using namespace lcrun;
using test::for_each_isa;
using test::Random;

namespace {

size_t at(int64_t i) { return static_cast<size_t>(i); }

void require_near(const std::vector<float>& found, const std::vector<double>& wanted, double absolute) {
  REQUIRE(found.size() == wanted.size());
  double worst = 0;
  for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(double(found[i]) - wanted[i]));
  REQUIRE(worst <= absolute);
}

std::vector<double> widen(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// S <- exp(g) S; u = beta (v - k S) or beta v; S <- S + k^T u; o = q S
std::vector<double> delta_reference(std::vector<double>& s, const std::vector<float>& q, const std::vector<float>& k,
                                    const std::vector<float>& v, double g, double beta, bool delta) {
  const size_t dk = k.size(), dv = v.size();
  std::vector<double> o(dv, 0.0);
  for (double& value : s) value *= std::exp(g);
  for (size_t j = 0; j < dv; ++j) {
    double seen = 0;
    for (size_t i = 0; i < dk; ++i) seen += double(k[i]) * s[i * dv + j];
    const double u = beta * (delta ? double(v[j]) - seen : double(v[j]));
    for (size_t i = 0; i < dk; ++i) {
      s[i * dv + j] += double(k[i]) * u;
      o[j] += double(q[i]) * s[i * dv + j];
    }
  }
  return o;
}

}  // namespace

TEST_CASE("delta_step follows the gated delta rule and gated linear attention", "[kernels]") {
  const int64_t shapes[][2] = {{16, 16}, {64, 64}, {128, 128}, {33, 83}, {8, 5}};
  for_each_isa([&](const std::string&) {
    for (const auto& shape : shapes) {
      for (const bool delta : {true, false}) {
        const int64_t dk = shape[0], dv = shape[1];
        Random random(static_cast<uint64_t>(dk * dv));
        std::vector<float> state = random.row(dk * dv);
        std::vector<double> wanted_state = widen(state);
        const float size = 1.0F / std::sqrt(static_cast<float>(dk));
        for (int token = 0; token < 5; ++token) {
          const auto q = random.row(dk, -size, size), k = random.row(dk, -size, size), v = random.row(dv);
          const float g = random.uniform(-0.5F, 0.0F);
          const float beta = delta ? random.uniform(0.1F, 1.0F) : 1.0F;
          std::vector<float> o(at(dv));
          kernels::delta_step(state.data(), q.data(), k.data(), v.data(), g, beta, delta, dk, dv, o.data());
          require_near(o, delta_reference(wanted_state, q, k, v, double(g), double(beta), delta), 5e-6);
        }
        require_near(state, wanted_state, 5e-6);
      }
    }
  });
}

TEST_CASE("ssm_step follows the Mamba-2 recurrence", "[kernels]") {
  const int64_t shapes[][2] = {{64, 128}, {64, 16}, {5, 37}};
  for_each_isa([&](const std::string&) {
    for (const auto& shape : shapes) {
      const int64_t head_dim = shape[0], d_state = shape[1];
      Random random(static_cast<uint64_t>(head_dim * d_state));
      std::vector<float> state = random.row(head_dim * d_state);
      std::vector<double> h = widen(state);
      for (int token = 0; token < 5; ++token) {
        const auto x = random.row(head_dim), b = random.row(d_state), c = random.row(d_state);
        const float dt = random.uniform(0.01F, 0.5F), a = random.uniform(-4.0F, -0.1F), d = random.uniform(-1, 1);
        std::vector<float> y(at(head_dim));
        kernels::ssm_step(state.data(), x.data(), b.data(), c.data(), dt, a, d, head_dim, d_state, y.data());
        std::vector<double> wanted(at(head_dim));
        for (int64_t p = 0; p < head_dim; ++p) {
          wanted[at(p)] = double(d) * double(x[at(p)]);
          for (int64_t n = 0; n < d_state; ++n) {
            double& cell = h[at(p * d_state + n)];
            cell = std::exp(double(dt) * double(a)) * cell + double(dt) * double(b[at(n)]) * double(x[at(p)]);
            wanted[at(p)] += double(c[at(n)]) * cell;
          }
        }
        require_near(y, wanted, 1e-5);
      }
      require_near(state, h, 2e-6);
    }
  });
}

TEST_CASE("conv_step convolves the last inputs and shifts its history", "[kernels]") {
  for_each_isa([](const std::string&) {
    for (const int64_t channels : {int64_t{3}, int64_t{16}, int64_t{100}}) {
      for (const int64_t kernel : {int64_t{1}, int64_t{2}, int64_t{4}}) {
        Random random(static_cast<uint64_t>(channels * kernel));
        const auto weight = random.row(channels * kernel), bias = random.row(channels);
        std::vector<float> history(at((kernel - 1) * channels), 0.0F);
        std::vector<std::vector<float>> inputs;
        for (int token = 0; token < 6; ++token) {
          inputs.push_back(random.row(channels));
          std::vector<float> y(at(channels));
          const bool with_bias = token % 2 == 0;
          kernels::conv_step(history.data(), inputs.back().data(), weight.data(), with_bias ? bias.data() : nullptr,
                             channels, kernel, y.data());
          std::vector<double> wanted(at(channels), 0.0);
          for (int64_t c = 0; c < channels; ++c) {
            if (with_bias) wanted[at(c)] = double(bias[at(c)]);
            for (int64_t j = 0; j < kernel; ++j) {
              const int64_t t = token - (kernel - 1) + j;
              if (t >= 0) wanted[at(c)] += double(weight[at(c * kernel + j)]) * double(inputs[at(t)][at(c)]);
            }
          }
          require_near(y, wanted, 1e-6);
        }
      }
    }
  });
}
