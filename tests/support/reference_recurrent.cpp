// Recurrent mixers of the reference, token by token.
//   Mamba-2: Dao and Gu, arXiv 2405.21060.  Gated delta rule: Yang et al., arXiv 2412.06464, section 3.
#include <cmath>

#include "tests/support/reference_model.hpp"

namespace lcrun::testing {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double silu(double x) { return x * sigmoid(x); }
double softplus(double x) { return std::log1p(std::exp(x)); }

Row rms(const double* x, int64_t n, double eps, const double* weight) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  Row y;
  for (int64_t i = 0; i < n; ++i) y.push_back(x[i] / std::sqrt(sum / static_cast<double>(n) + eps) * weight[i]);
  return y;
}

// x / sqrt(|x|^2 + eps)
Row unit(const double* x, int64_t n, double eps) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  Row y;
  for (int64_t i = 0; i < n; ++i) y.push_back(x[i] / std::sqrt(sum + eps));
  return y;
}

}  // namespace

// Causal depthwise convolution with zeros before the first token, then SiLU.
Rows ReferenceModel::convolve(const std::string& prefix, const Rows& in) const {
  const RefTensor& weight = tensor(prefix + "ssm_conv1d.weight");
  const RefTensor& bias = optional(prefix + "ssm_conv1d.bias");
  const int64_t taps = config_.conv_kernel;
  Rows out = in;
  for (int64_t t = 0; t < static_cast<int64_t>(in.size()); ++t) {
    for (size_t c = 0; c < in[0].size(); ++c) {
      double sum = bias.empty() ? 0.0 : bias.values[c];
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t source = t - (taps - 1) + tap;
        if (source >= 0) sum += weight.row(static_cast<int64_t>(c))[tap] * in[static_cast<size_t>(source)][c];
      }
      out[static_cast<size_t>(t)][c] = silu(sum);
    }
  }
  return out;
}

Rows ReferenceModel::mamba2(const std::string& prefix, const Rows& h) const {
  const RefConfig& c = config_;
  const int64_t dim = c.inner / c.ssm_heads;
  const int64_t conv = c.inner + 2 * c.groups * c.state;
  Rows z;
  Rows xbc;
  Rows dt;
  for (const Row& row : h) {
    const Row all = multiply(prefix + "ssm_in", row);  // z, then x B C, then dt
    z.emplace_back(all.begin(), all.begin() + c.inner);
    xbc.emplace_back(all.begin() + c.inner, all.begin() + c.inner + conv);
    dt.emplace_back(all.begin() + c.inner + conv, all.end());
  }
  xbc = convolve(prefix, xbc);
  const RefTensor& a = tensor(prefix + "ssm_a");
  const RefTensor& d = tensor(prefix + "ssm_d");
  const RefTensor& dt_bias = tensor(prefix + "ssm_dt.bias");
  const RefTensor& norm_weight = tensor(prefix + "ssm_norm.weight");
  std::vector<double> state(static_cast<size_t>(c.inner * c.state), 0.0);
  Rows out;
  for (size_t t = 0; t < h.size(); ++t) {
    Row y(static_cast<size_t>(c.inner));
    for (int64_t head = 0; head < c.ssm_heads; ++head) {
      const auto hi = static_cast<size_t>(head);
      const int64_t group = head / (c.ssm_heads / c.groups);
      const double step = softplus(dt[t][hi] + dt_bias.values[hi]);
      const double* b = xbc[t].data() + c.inner + group * c.state;
      const double* read = b + c.groups * c.state;
      for (int64_t i = head * dim; i < (head + 1) * dim; ++i) {
        const double x = xbc[t][static_cast<size_t>(i)];
        double sum = d.values[hi] * x;
        for (int64_t n = 0; n < c.state; ++n) {
          double& s = state[static_cast<size_t>(i * c.state + n)];
          s = std::exp(step * a.values[hi]) * s + step * b[n] * x;
          sum += read[n] * s;
        }
        y[static_cast<size_t>(i)] = sum * silu(z[t][static_cast<size_t>(i)]);
      }
    }
    Row normed;
    const int64_t group_size = c.inner / c.groups;
    for (int64_t g = 0; g < c.groups; ++g) {
      const Row part = rms(y.data() + g * group_size, group_size, c.eps, norm_weight.values.data() + g * group_size);
      normed.insert(normed.end(), part.begin(), part.end());
    }
    out.push_back(multiply(prefix + "ssm_out", normed));
  }
  return out;
}

Rows ReferenceModel::delta(const std::string& prefix, const Rows& h) const {
  const RefConfig& c = config_;
  const int64_t dim = c.state;  // of a key and of a value
  const int64_t keys = dim * c.groups;
  const int64_t per_key = c.ssm_heads / c.groups;
  Rows qkv;
  for (const Row& row : h) qkv.push_back(multiply(prefix + "attn_qkv", row));
  qkv = convolve(prefix, qkv);
  const RefTensor& a = tensor(prefix + "ssm_a");
  const RefTensor& dt_bias = tensor(prefix + "ssm_dt.bias");
  const RefTensor& norm_weight = tensor(prefix + "ssm_norm.weight");
  std::vector<double> state(static_cast<size_t>(c.ssm_heads * dim * dim), 0.0);
  Rows out;
  for (size_t t = 0; t < h.size(); ++t) {
    const Row z = multiply(prefix + "attn_gate", h[t]);
    const bool split = has(prefix + "ssm_beta.weight");
    const Row beta_row = multiply(prefix + (split ? "ssm_beta" : "ssm_ba"), h[t]);
    const Row alpha_row = split ? multiply(prefix + "ssm_alpha", h[t]) : beta_row;
    Row y;
    for (int64_t head = 0; head < c.ssm_heads; ++head) {
      const auto hi = static_cast<size_t>(head);
      const int64_t key_head = c.tile_keys ? head % c.groups : head / per_key;
      // ssm_ba: for each key head its value heads' betas, then their alphas.
      const size_t packed = static_cast<size_t>(head / per_key * 2 * per_key + head % per_key);
      const double beta = sigmoid(beta_row[split ? hi : packed]);
      const double alpha = alpha_row[split ? hi : packed + static_cast<size_t>(per_key)];
      const double decay = std::exp(a.values[hi] * softplus(alpha + dt_bias.values[hi]));
      const Row q = unit(qkv[t].data() + key_head * dim, dim, c.eps);
      const Row k = unit(qkv[t].data() + keys + key_head * dim, dim, c.eps);
      const double* v = qkv[t].data() + 2 * keys + head * dim;
      double* s = state.data() + head * dim * dim;  // [key][value]
      Row o(static_cast<size_t>(dim), 0.0);
      for (int64_t j = 0; j < dim; ++j) {
        double recalled = 0.0;
        for (int64_t i = 0; i < dim; ++i) recalled += k[static_cast<size_t>(i)] * (s[i * dim + j] *= decay);
        const double update = beta * (v[j] - recalled);
        for (int64_t i = 0; i < dim; ++i) {
          s[i * dim + j] += k[static_cast<size_t>(i)] * update;
          o[static_cast<size_t>(j)] += q[static_cast<size_t>(i)] * s[i * dim + j] / std::sqrt(static_cast<double>(dim));
        }
      }
      const Row normed = rms(o.data(), dim, c.eps, norm_weight.values.data());
      for (int64_t j = 0; j < dim; ++j) {
        y.push_back(normed[static_cast<size_t>(j)] * silu(z[static_cast<size_t>(head * dim + j)]));
      }
    }
    out.push_back(multiply(prefix + "ssm_out", y));
  }
  return out;
}

}  // namespace lcrun::testing
