// Feed-forward networks of the reference: dense, and routed to experts.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/format.hpp"
#include "tests/support/reference_model.hpp"

namespace lcrun::testing {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double activate(double x, bool gelu) {
  if (!gelu) return x * sigmoid(x);
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

// gpt-oss: gate clamped above, up clamped on both sides, (up + 1) * gate * sigmoid(1.702 gate).
double oai_swiglu(double gate, double up) {
  const double g = std::min(gate, 7.0);
  const double u = std::clamp(up, -7.0, 7.0);
  return (u + 1.0) * g * sigmoid(1.702 * g);
}

}  // namespace

Row ReferenceModel::ffn(int64_t layer, const Row& h) const {
  const std::string p = format("blk.{}.", layer);
  return has(p + "ffn_gate_inp.weight") ? moe_ffn(p, h) : dense_ffn(p, "", h);
}

// suffix: "" or "_shexp".
Row ReferenceModel::dense_ffn(const std::string& prefix, const std::string& suffix, const Row& h) const {
  const Row up = multiply(prefix + "ffn_up" + suffix, h);
  Row hidden;
  if (has(prefix + "ffn_gate" + suffix + ".weight")) {
    const Row gate = multiply(prefix + "ffn_gate" + suffix, h);
    for (size_t i = 0; i < up.size(); ++i) hidden.push_back(activate(gate[i], config_.gelu) * up[i]);
  } else if (static_cast<int64_t>(up.size()) == 2 * tensor(prefix + "ffn_down" + suffix + ".weight").cols) {
    const size_t half = up.size() / 2;  // gate, then up, in one matrix
    for (size_t i = 0; i < half; ++i) hidden.push_back(activate(up[i], config_.gelu) * up[half + i]);
  } else {
    for (const double x : up) hidden.push_back(activate(x, config_.gelu));
  }
  return multiply(prefix + "ffn_down" + suffix, hidden);
}

Row ReferenceModel::expert_ffn(const std::string& prefix, int64_t expert, const Row& h) const {
  const auto product = [&](const std::string& name, const Row& x) {
    const RefTensor& weight = tensor(prefix + name + ".weight");
    const RefTensor& bias = optional(prefix + name + ".bias");
    const int64_t rows = weight.rows / config_.n_experts;
    Row y;
    for (int64_t r = 0; r < rows; ++r) {
      double sum = bias.empty() ? 0.0 : bias.values[static_cast<size_t>(expert * rows + r)];
      for (int64_t i = 0; i < weight.cols; ++i) sum += weight.row(expert * rows + r)[i] * x[static_cast<size_t>(i)];
      y.push_back(sum);
    }
    return y;
  };
  const Row gate = product("ffn_gate_exps", h);
  const Row up = product("ffn_up_exps", h);
  Row hidden;
  for (size_t i = 0; i < up.size(); ++i) {
    hidden.push_back(config_.oai_swiglu ? oai_swiglu(gate[i], up[i]) : activate(gate[i], config_.gelu) * up[i]);
  }
  return product("ffn_down_exps", hidden);
}

Row ReferenceModel::moe_ffn(const std::string& prefix, const Row& h) const {
  Row scores = multiply(prefix + "ffn_gate_inp", h);
  const double peak = *std::max_element(scores.begin(), scores.end());
  if (config_.gate == RefGate::kSoftmax) {
    double total = 0.0;
    for (double& score : scores) total += score = std::exp(score - peak);
    for (double& score : scores) score /= total;
  } else if (config_.gate == RefGate::kSigmoid) {
    for (double& score : scores) score = sigmoid(score);
  }
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(config_.n_used));
  if (config_.gate == RefGate::kSoftmaxOfChosen) {
    for (double& score : scores) score = std::exp(score - peak);
  }
  double chosen = 0.0;
  for (const size_t expert : order) chosen += scores[expert];
  const bool divide = config_.normalize || config_.gate == RefGate::kSoftmaxOfChosen;
  Row out(h.size(), 0.0);
  for (const size_t expert : order) {
    const double weight = divide ? scores[expert] / chosen : scores[expert];
    const Row y = expert_ffn(prefix, static_cast<int64_t>(expert), h);
    for (size_t i = 0; i < out.size(); ++i) out[i] += weight * y[i];
  }
  if (!has(prefix + "ffn_up_shexp.weight")) return out;
  const Row shared = dense_ffn(prefix, "_shexp", h);
  double weight = 1.0;
  if (has(prefix + "ffn_gate_inp_shexp.weight")) weight = sigmoid(multiply(prefix + "ffn_gate_inp_shexp", h)[0]);
  for (size_t i = 0; i < out.size(); ++i) out[i] += weight * shared[i];
  return out;
}

}  // namespace lcrun::testing
