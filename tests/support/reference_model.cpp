// Embedding, blocks, attention and logits of the reference.
#include "tests/support/reference_model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "quant/format.hpp"
#include "src/base/format.hpp"

namespace lcrun::testing {
namespace {

RefTensor read_tensor(const ggufish::TensorEntry& entry) {
  const TensorView& view = entry.view;
  const quant::QuantOps* ops = quant::find_ops(view.dtype);
  if (ops == nullptr) throw std::runtime_error(quant::unsupported_type(entry.name, view.dtype).message);
  RefTensor tensor;
  tensor.cols = view.cols();
  tensor.rows = view.rows();
  tensor.n_dims = 1 + (view.ne[1] > 1 ? 1 : 0) + (view.ne[2] > 1 ? 1 : 0);
  std::vector<float> row(static_cast<size_t>(tensor.cols));
  for (int64_t r = 0; r < tensor.rows; ++r) {
    ops->dequantize(view.data + view.row_bytes * static_cast<uint64_t>(r), tensor.cols, row.data());
    tensor.values.insert(tensor.values.end(), row.begin(), row.end());
  }
  return tensor;
}

void add(Row& x, const Row& y, double scale) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += scale * y[i];
}

double soft_cap(double x, double cap) { return cap > 0.0 ? cap * std::tanh(x / cap) : x; }

Row normalize(const double* x, int64_t n, bool layer_norm, double eps, const double* weight, const double* bias) {
  double mean = 0.0;
  if (layer_norm) {
    for (int64_t i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<double>(n);
  }
  double variance = 0.0;
  for (int64_t i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean);
  variance /= static_cast<double>(n);
  Row y(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    y[static_cast<size_t>(i)] = (x[i] - mean) / std::sqrt(variance + eps) * weight[i] + (bias ? bias[i] : 0.0);
  }
  return y;
}

}  // namespace

ReferenceModel::ReferenceModel(std::shared_ptr<const ggufish::ModelFile> file)
    : file_(std::move(file)), config_(read_reference_config(*file_)) {
  for (const ggufish::TensorEntry& entry : file_->tensors()) {
    tensors_.emplace_back(std::string(entry.name), read_tensor(entry));
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
}

const RefTensor& ReferenceModel::optional(const std::string& name) const {
  static const RefTensor kNone;
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const auto& entry, const std::string& wanted) { return entry.first < wanted; });
  return it != tensors_.end() && it->first == name ? it->second : kNone;
}

const RefTensor& ReferenceModel::tensor(const std::string& name) const {
  const RefTensor& found = optional(name);
  if (found.empty()) throw std::runtime_error("the reference misses tensor " + name);
  return found;
}

Row ReferenceModel::multiply(const std::string& name, const Row& x) const {
  const RefTensor& weight = tensor(name + ".weight");
  const RefTensor& bias = optional(name + ".bias");
  if (weight.cols != static_cast<int64_t>(x.size())) throw std::runtime_error("shape of " + name);
  Row y(static_cast<size_t>(weight.rows));
  for (int64_t r = 0; r < weight.rows; ++r) {
    double sum = bias.empty() ? 0.0 : bias.values[static_cast<size_t>(r)];
    for (int64_t i = 0; i < weight.cols; ++i) sum += weight.row(r)[i] * x[static_cast<size_t>(i)];
    y[static_cast<size_t>(r)] = sum;
  }
  return y;
}

Row ReferenceModel::norm(const std::string& name, const Row& x) const {
  const RefTensor& bias = optional(name + ".bias");
  return normalize(x.data(), static_cast<int64_t>(x.size()), config_.layer_norm, config_.eps,
                   tensor(name + ".weight").values.data(), bias.empty() ? nullptr : bias.values.data());
}

Rows ReferenceModel::logits(std::span<const int32_t> tokens) const {
  const RefTensor& embedding = tensor("token_embd.weight");
  Rows x;
  for (const int32_t token : tokens) {
    Row row(embedding.row(token), embedding.row(token) + embedding.cols);
    for (double& value : row) value *= config_.embed_scale;
    x.push_back(std::move(row));
  }
  for (int64_t layer = 0; layer < config_.n_layers; ++layer) run_layer(layer, x);
  Rows out;
  for (const Row& row : x) {
    Row logits = multiply(config_.tied ? "token_embd" : "output", norm("output_norm", row));
    for (double& value : logits) value = soft_cap(value * config_.logit_scale, config_.logit_cap);
    out.push_back(std::move(logits));
  }
  return out;
}

void ReferenceModel::run_layer(int64_t layer, Rows& x) const {
  const std::string p = format("blk.{}.", layer);
  const bool has_post = config_.ffn_norm != "post_attention_norm" && has(p + "post_attention_norm.weight");
  Rows h = x;
  if (has(p + "attn_norm.weight")) {
    for (Row& row : h) row = norm(p + "attn_norm", row);
  }
  Rows mixed = mix(layer, h);
  const bool has_ffn = has(p + "ffn_down.weight") || has(p + "ffn_down_exps.weight");
  for (size_t t = 0; t < x.size(); ++t) {
    if (has_post) mixed[t] = norm(p + "post_attention_norm", mixed[t]);
    add(x[t], mixed[t], config_.residual_scale);
    if (!has_ffn) continue;
    Row in = config_.parallel ? h[t] : x[t];
    if (!config_.parallel && has(p + config_.ffn_norm + ".weight")) in = norm(p + config_.ffn_norm, in);
    Row out = ffn(layer, in);
    if (has(p + "post_ffw_norm.weight")) out = norm(p + "post_ffw_norm", out);
    add(x[t], out, config_.residual_scale);
  }
}

Rows ReferenceModel::mix(int64_t layer, const Rows& h) const {
  if (config_.layers[static_cast<size_t>(layer)].attends) return attention(layer, h);
  const std::string p = format("blk.{}.", layer);
  return config_.arch == "mamba2" ? mamba2(p, h) : delta(p, h);
}

void ReferenceModel::project_qkv(int64_t layer, const Row& h, Row& q, Row& k, Row& v, Row& gate) const {
  const std::string p = format("blk.{}.", layer);
  const RefLayer& l = config_.layers[static_cast<size_t>(layer)];
  if (has(p + "attn_qkv.weight")) {
    const Row all = multiply(p + "attn_qkv", h);
    const int64_t q_size = l.n_heads * config_.k_dim;
    const int64_t k_size = l.n_kv_heads * config_.k_dim;
    q.assign(all.begin(), all.begin() + q_size);
    k.assign(all.begin() + q_size, all.begin() + q_size + k_size);
    v.assign(all.begin() + q_size + k_size, all.end());
    for (auto [row, name] : {std::pair{&q, "attn_q"}, std::pair{&k, "attn_k"}, std::pair{&v, "attn_v"}}) {
      const RefTensor& bias = optional(p + name + ".bias");
      if (!bias.empty()) add(*row, bias.values, 1.0);
    }
    return;
  }
  q = multiply(p + "attn_q", h);
  k = multiply(p + "attn_k", h);
  v = multiply(p + "attn_v", h);
  if (!config_.q_gate) return;
  // Each head's output is its query followed by its gate.
  Row plain;
  for (int64_t head = 0; head < l.n_heads; ++head) {
    const auto first = q.begin() + head * 2 * config_.k_dim;
    plain.insert(plain.end(), first, first + config_.k_dim);
    gate.insert(gate.end(), first + config_.k_dim, first + 2 * config_.k_dim);
  }
  q = std::move(plain);
}

void ReferenceModel::norm_heads(const std::string& name, Row& x, int64_t n_heads) const {
  const RefTensor& weight = optional(name + ".weight");
  if (weight.empty()) return;
  if (config_.qk_norm_full) {
    x = normalize(x.data(), static_cast<int64_t>(x.size()), false, config_.eps, weight.values.data(), nullptr);
    return;
  }
  const int64_t dim = config_.k_dim;
  for (int64_t head = 0; head < n_heads; ++head) {
    const double* w = weight.values.data() + (weight.values.size() > static_cast<size_t>(dim) ? head * dim : 0);
    const Row y = normalize(x.data() + head * dim, dim, config_.layer_norm, config_.eps, w, nullptr);
    std::copy(y.begin(), y.end(), x.begin() + head * dim);
  }
}

// Angle of a pair at a position, and what multiplies its sine and cosine (YaRN: arXiv 2309.00071, section 3).
double ReferenceModel::rope_angle(const RefLayer& layer, int64_t pair, int64_t pos, double* magnitude) const {
  const auto n_rot = static_cast<double>(config_.n_rot);
  double frequency = std::pow(layer.rope_base, -2.0 * static_cast<double>(pair) / n_rot);
  if (!config_.rope_factors.empty()) {
    frequency /= tensor(config_.rope_factors).values[static_cast<size_t>(pair)];
  }
  *magnitude = config_.rope_magnitude;
  const double plain = static_cast<double>(pos) * frequency;
  if (!layer.rope_scaled || config_.scaling == RefScaling::kNone) return plain;
  const double stretched = plain / config_.rope_factor;
  if (config_.scaling == RefScaling::kLinear) return stretched;
  const auto dimension = [&](double rotations) {
    return n_rot * std::log(config_.rope_ctx / (rotations * 2.0 * M_PI)) / (2.0 * std::log(layer.rope_base));
  };
  const double low = std::max(0.0, std::floor(dimension(32.0)));
  const double high = std::min(n_rot - 1.0, std::ceil(dimension(1.0)));
  const double ramp = std::clamp((static_cast<double>(pair) - low) / std::max(0.001, high - low), 0.0, 1.0);
  *magnitude *= 1.0 + 0.1 * std::log(config_.rope_factor);
  return stretched * ramp + plain * (1.0 - ramp);
}

void ReferenceModel::rotate(int64_t layer, int64_t pos, Row& x, int64_t n_heads) const {
  const RefLayer& l = config_.layers[static_cast<size_t>(layer)];
  if (!l.rope) return;
  const int64_t half = config_.n_rot / 2;
  for (int64_t head = 0; head < n_heads; ++head) {
    double* h = x.data() + head * config_.k_dim;
    for (int64_t pair = 0; pair < half; ++pair) {
      double magnitude = 1.0;
      const double angle = rope_angle(l, pair, pos, &magnitude);
      double& a = h[config_.neox ? pair : 2 * pair];
      double& b = h[config_.neox ? pair + half : 2 * pair + 1];
      const double rotated_a = (a * std::cos(angle) - b * std::sin(angle)) * magnitude;
      b = (a * std::sin(angle) + b * std::cos(angle)) * magnitude;
      a = rotated_a;
    }
  }
}

Rows ReferenceModel::attention(int64_t layer, const Rows& h) const {
  const std::string p = format("blk.{}.", layer);
  const RefLayer& l = config_.layers[static_cast<size_t>(layer)];
  const size_t n = h.size();
  Rows q(n);
  Rows k(n);
  Rows v(n);
  Rows gate(n);
  for (size_t t = 0; t < n; ++t) {
    project_qkv(layer, h[t], q[t], k[t], v[t], gate[t]);
    norm_heads(p + "attn_q_norm", q[t], l.n_heads);
    norm_heads(p + "attn_k_norm", k[t], l.n_kv_heads);
    rotate(layer, static_cast<int64_t>(t), q[t], l.n_heads);
    rotate(layer, static_cast<int64_t>(t), k[t], l.n_kv_heads);
  }
  Rows out(n);
  for (size_t t = 0; t < n; ++t) {
    Row o = attend(layer, static_cast<int64_t>(t), q, k, v);
    for (size_t i = 0; i < gate[t].size(); ++i) o[i] /= 1.0 + std::exp(-gate[t][i]);
    out[t] = multiply(p + "attn_output", o);
  }
  return out;
}

// All heads of one query.
Row ReferenceModel::attend(int64_t layer, int64_t t, const Rows& q, const Rows& k, const Rows& v) const {
  const RefLayer& l = config_.layers[static_cast<size_t>(layer)];
  const RefTensor& sinks = optional(format("blk.{}.attn_sinks.weight", layer));
  const int64_t kd = config_.k_dim;
  const int64_t vd = config_.v_dim;
  const double scale = config_.attn_scale != 0.0 ? config_.attn_scale : 1.0 / std::sqrt(static_cast<double>(kd));
  const int64_t first = l.window > 0 ? std::max<int64_t>(0, t - l.window + 1) : 0;
  Row out(static_cast<size_t>(l.n_heads * vd), 0.0);
  for (int64_t head = 0; head < l.n_heads; ++head) {
    const int64_t kv_head = head / (l.n_heads / l.n_kv_heads);
    Row scores;
    for (int64_t s = first; s <= t; ++s) {
      double dot = 0.0;
      for (int64_t i = 0; i < kd; ++i) {
        dot += q[static_cast<size_t>(t)][static_cast<size_t>(head * kd + i)] *
               k[static_cast<size_t>(s)][static_cast<size_t>(kv_head * kd + i)];
      }
      scores.push_back(soft_cap(dot * scale, config_.attn_cap));
    }
    double peak = *std::max_element(scores.begin(), scores.end());
    double total = 0.0;
    if (!sinks.empty()) {
      peak = std::max(peak, sinks.values[static_cast<size_t>(head)]);
      total += std::exp(sinks.values[static_cast<size_t>(head)] - peak);
    }
    for (double& score : scores) total += score = std::exp(score - peak);
    for (int64_t s = first; s <= t; ++s) {
      const double weight = scores[static_cast<size_t>(s - first)] / total;
      for (int64_t i = 0; i < vd; ++i) {
        out[static_cast<size_t>(head * vd + i)] +=
            weight * v[static_cast<size_t>(s)][static_cast<size_t>(kv_head * vd + i)];
      }
    }
  }
  return out;
}

double relative_error(std::span<const float> got, const Row& want) {
  double largest = 0.0;
  double error = 0.0;
  for (size_t i = 0; i < want.size(); ++i) {
    largest = std::max(largest, std::abs(want[i]));
    const double difference = std::abs(static_cast<double>(got[i]) - want[i]);
    if (!(difference <= error)) error = difference;  // keeps NaN
  }
  return error / largest;
}

}  // namespace lcrun::testing
