#include "src/runtime/forecast.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "src/attention/attention.hpp"
#include "src/attention/block_means.hpp"
#include "src/attention/shortlist.hpp"
#include "src/base/format.hpp"
#include "src/runtime/bench.hpp"
#include "src/runtime/budget.hpp"
#include "storage/file_device.hpp"
#include "storage/io_queue.hpp"

namespace lcrun::runtime {
namespace {

using attention::Reading;
using attention::Role;
using model::ModelConfig;
using model::Token;
using Clock = std::chrono::steady_clock;

constexpr int64_t kBlock = storage::kBlockTokens;
constexpr uint64_t kProbeWeights = uint64_t{256} << 20;  // of layers, about
constexpr uint64_t kProbeCache = uint64_t{96} << 20;     // at the larger depth, about
constexpr uint64_t kProbeStream = uint64_t{128} << 20;
constexpr uint64_t kProbeDisk = uint64_t{64} << 20;
constexpr uint32_t kDiskPiece = 256 << 10;
constexpr int64_t kShallow = 512;    // tokens: beyond most windows
constexpr int64_t kDeepAtLeast = 4;  // times that
constexpr int64_t kDeepAtMost = 64;
constexpr int64_t kProbeRows = 256;  // of a prompt
constexpr int kDecoded = 4;
constexpr double kDiskOverlap = 1.15;  // of the greater of reading and computing (docs/speed.md)
constexpr int kSteps = 1024;           // of a sum over the context

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool grows(const model::LayerConfig& layer) { return layer.mixer == "attention" && layer.window == 0; }

uint64_t bytes_of_layer(const ggufish::ModelFile& file, int64_t layer) {
  const std::string prefix = format("blk.{}.", layer);
  uint64_t total = 0;
  for (const auto& tensor : file.tensors()) {
    if (tensor.name.compare(0, prefix.size(), prefix) == 0) total += tensor.view.size_bytes;
  }
  return total;
}

// The first layers, with one of each kind among them.
struct Part {
  int64_t layers = 0;
  uint64_t bytes = 0;     // of weights
  double of_weights = 1;  // of all layers
  double of_growing = 1;  // of the layers that see everything
};

Part choose_part(const ggufish::ModelFile& file, const ModelConfig& config) {
  Part part;
  uint64_t all = 0;
  int64_t growing = 0, growing_part = 0, last_needed = 0;
  bool seen_grows = false, seen_window = false, seen_other = false;
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const auto& layer = config.layers[static_cast<size_t>(i)];
    all += bytes_of_layer(file, i);
    growing += grows(layer) ? 1 : 0;
    bool& seen = grows(layer) ? seen_grows : layer.mixer == "attention" ? seen_window : seen_other;
    if (!seen) last_needed = i;
    seen = true;
  }
  for (int64_t i = 0; i < config.n_layers && (part.bytes < kProbeWeights || i <= last_needed); ++i) {
    part.bytes += bytes_of_layer(file, i);
    growing_part += grows(config.layers[static_cast<size_t>(i)]) ? 1 : 0;
    ++part.layers;
  }
  if (all > 0) part.of_weights = static_cast<double>(part.bytes) / static_cast<double>(all);
  if (growing > 0) part.of_growing = static_cast<double>(growing_part) / static_cast<double>(growing);
  return part;
}

// Seconds of a token, a straight line over its position; and of its logits.
struct Line {
  double fixed = 0;
  double slope = 0;
  double at(int64_t pos) const { return fixed + slope * static_cast<double>(pos); }
};

Line line_through(int64_t x1, double y1, int64_t x2, double y2, const Part& part) {
  Line line;
  line.slope = std::max(0.0, (y2 - y1) / static_cast<double>(x2 - x1));
  line.fixed = std::max(0.0, y1 - line.slope * static_cast<double>(x1)) / part.of_weights;
  line.slope /= part.of_growing;
  return line;
}

struct Measured {
  Line prefill, decode;
};

class Probe {
 public:
  Probe(const ForecastRequest& request, const Part& part) : request_(request), part_(part) {}

  Status load() {
    model::LoadOptions load;
    load.n_threads = request_.n_threads_batch;
    load.max_layers = part_.layers;
    LCRUN_ASSIGN(model_, model::Model::load(request_.file, load));
    const auto n_vocab = static_cast<uint64_t>(model_->config().n_vocab);
    for (int64_t i = 0; i < std::max(kShallow, kProbeRows); ++i) {
      tokens_.push_back(static_cast<Token>((static_cast<uint64_t>(i) * 7919 + 13) % n_vocab));
    }
    return {};
  }

  // Reading and decoding at two depths, the first at least `from`.
  Result<Measured> measure(const model::CacheOptions& cache, int64_t from, bool asks) {
    model::StepOptions options;
    options.cache = cache;
    options.n_ctx = request_.n_ctx;
    options.max_rows = std::min(request_.batch, kProbeRows);
    options.n_threads = request_.n_threads_batch;
    LCRUN_ASSIGN(auto prompt, model_->plan(options));
    options.max_rows = 1;
    options.n_threads = request_.n_threads;
    LCRUN_ASSIGN(auto decode, model_->plan(options));
    LCRUN_ASSIGN(auto state, model_->new_state(cache));
    while (state.tokens() < kBlock) LCRUN_TRY(read(state, prompt, kBlock - state.tokens()));
    const int64_t first = std::max(kShallow, (from + kBlock - 1) / kBlock * kBlock);
    const uint64_t of_token = std::max<uint64_t>(1, model_->state_bytes(cache, 2 * kShallow) / (2 * kShallow));
    const auto deep = static_cast<int64_t>(kProbeCache / of_token) / kBlock * kBlock;
    const int64_t second = std::clamp(deep, kDeepAtLeast * first, kDeepAtMost * first);
    double read_s[2] = {}, decode_s[2] = {};
    for (int i = 0; i < 2; ++i) {
      LCRUN_TRY(state.repeat(i == 0 ? first : second));
      LCRUN_ASSIGN(read_s[i], time_reading(state, prompt));
      LCRUN_ASSIGN(decode_s[i], time_decoding(state, decode, asks));
    }
    const int64_t half = prompt.options().max_rows / 2;
    return Measured{line_through(first + half, read_s[0], second + half, read_s[1], part_),
                    line_through(first, decode_s[0], second, decode_s[1], part_)};
  }

  // Seconds of the logits of one token.
  Result<double> time_logits() {
    model::StepOptions options;
    options.cache = {request_.cache.type_k, request_.cache.type_v};
    options.max_rows = 1;
    options.n_threads = request_.n_threads;
    LCRUN_ASSIGN(auto step, model_->plan(options));
    LCRUN_ASSIGN(auto state, model_->new_state(options.cache));
    LCRUN_ASSIGN(const MatView hidden, model_->forward(std::span(tokens_).first(1), state, step));
    std::vector<float> logits(static_cast<size_t>(model_->config().n_vocab));
    const MatView out{logits.data(), 1, model_->config().n_vocab, model_->config().n_vocab};
    double best = 0;
    for (int i = 0; i < 3; ++i) {
      const auto start = Clock::now();
      model_->logits(hidden, out, step);
      const double seconds = seconds_since(start);
      best = i == 0 ? seconds : std::min(best, seconds);
    }
    return best;
  }

 private:
  Status read(storage::SequenceState& state, model::Step& step, int64_t n) {
    n = std::min(n, step.options().max_rows);
    LCRUN_TRY(model_->forward(std::span(tokens_).first(static_cast<size_t>(n)), state, step, false));
    return {};
  }

  // Of a token, in a whole batch.
  Result<double> time_reading(const storage::SequenceState& at, model::Step& step) {
    const int64_t n = step.options().max_rows;
    double best = 0;
    for (int i = 0; i < 2; ++i) {
      LCRUN_ASSIGN(auto state, at.clone());
      const auto start = Clock::now();
      LCRUN_TRY(read(state, step, n));
      const double seconds = seconds_since(start) / static_cast<double>(n);
      best = i == 0 ? seconds : std::min(best, seconds);
    }
    return best;
  }

  Result<double> time_decoding(const storage::SequenceState& at, model::Step& step, bool asks) {
    LCRUN_ASSIGN(auto state, at.clone());
    double best = 0;
    for (int i = 0; i < kDecoded; ++i) {
      const auto start = Clock::now();
      LCRUN_TRY(model_->forward(std::span(tokens_).subspan(static_cast<size_t>(i), 1), state, step, asks));
      const double seconds = seconds_since(start);
      // The first one finds everything cold.
      best = i < 2 ? seconds : std::min(best, seconds);
    }
    return best;
  }

  const ForecastRequest& request_;
  const Part& part_;
  std::shared_ptr<const model::Model> model_;
  std::vector<Token> tokens_;
};

// Bytes a second of a scratch file, past the page cache where that can be.
Result<double> disk_rate(const std::string& directory) {
  LCRUN_ASSIGN(auto device, storage::open_scratch(directory, {}));
  LCRUN_TRY(device->allocate(kProbeDisk));
  const uint32_t depth = std::min(16U, device->depth());
  LCRUN_ASSIGN(auto memory, AlignedBuffer::allocate(size_t{kDiskPiece} * depth, 4096));
  double rate = 0;
  for (const auto op : {storage::IoOp::kWrite, storage::IoOp::kRead}) {
    storage::IoQueue queue(*device);
    std::vector<storage::IoOutcome> outcomes(depth);
    std::vector<uint32_t> free;
    for (uint32_t i = 0; i < depth; ++i) free.push_back(i);
    const auto start = Clock::now();
    for (uint64_t at = 0; at < kProbeDisk || queue.in_flight() > 0;) {
      for (; at < kProbeDisk && !free.empty(); at += kDiskPiece) {
        queue.start({op, at, memory.data() + size_t{kDiskPiece} * free.back(), kDiskPiece, free.back()});
        free.pop_back();
      }
      const size_t n = queue.poll(outcomes, true);
      for (size_t i = 0; i < n; ++i) {
        if (outcomes[i].error != 0) return storage::io_error("probing the disk", outcomes[i].error);
        free.push_back(static_cast<uint32_t>(outcomes[i].ticket));
      }
    }
    rate = static_cast<double>(kProbeDisk) / seconds_since(start);
  }
  return rate;
}

// Bytes of weights that a decoded token reads: of experts, those that are used.
uint64_t weights_of_token(const ggufish::ModelFile& file, const ModelConfig& config) {
  const bool tied = file.find_tensor("output.weight") == nullptr;
  uint64_t total = 0;
  for (const auto& tensor : file.tensors()) {
    if (tensor.name == "token_embd.weight" && !tied) continue;
    const bool is_expert = tensor.view.ne[2] > 1 && config.moe.n_experts > 0;
    total += is_expert ? tensor.view.size_bytes / static_cast<uint64_t>(config.moe.n_experts) *
                             static_cast<uint64_t>(config.moe.n_used)
                       : tensor.view.size_bytes;
  }
  return total;
}

// Multiply-adds of a token's products, but for its logits.
double linear_operations(const ggufish::ModelFile& file, const ModelConfig& config) {
  double total = 0;
  for (const auto& tensor : file.tensors()) {
    if (tensor.view.rows() <= 1 || tensor.name.compare(0, 4, "blk.") != 0) continue;
    const bool is_expert = tensor.view.ne[2] > 1 && config.moe.n_experts > 0;
    const double share =
        is_expert ? static_cast<double>(config.moe.n_used) / static_cast<double>(config.moe.n_experts) : 1.0;
    total += static_cast<double>(tensor.view.n_elements()) * share;
  }
  return total;
}

// Rows that a layer which sees everything reads at `pos`, and those before them whose index it looks at.
int64_t rows_read(const Reading& reading, int64_t pos) {
  const int64_t begin = reading.role == Role::kDense ? 0 : reading.window_begin(pos);
  if (begin == 0) return pos + 1;
  const int64_t far = (begin - reading.sinks) / kBlock;
  return reading.sinks + std::min(far, reading.blocks) * kBlock + pos + 1 - begin;
}

// Seconds of a token at any position.
struct Costs {
  const ForecastRequest& request;
  const ModelConfig& config;
  const Measured& dense;
  const Measured& chosen;  // by the policy, past the positions that are dense
  double head;             // of logits
  double disk_rate;        // 0: no disk

  bool is_dense(int64_t pos) const {
    return request.cache.attention == nullptr || pos < request.cache.attention->dense_until;
  }
  // Of what a token reads of the cache, what does not stay in memory; `together` tokens read it at once.
  double from_disk(int64_t pos, const model::CacheOptions& cache, int64_t together) const {
    if (disk_rate <= 0) return 0;
    const auto held = static_cast<double>(cache_bytes(config, request.cache, pos + 1));
    const double on_disk = std::max(0.0, 1.0 - static_cast<double>(request.memory_bytes) / std::max(held, 1.0));
    return on_disk * static_cast<double>(cache_bytes_read(config, cache, pos)) / disk_rate /
           static_cast<double>(together);
  }
  static double both(double computed, double disk) {
    return disk > 0 ? std::max(computed, disk) * kDiskOverlap : computed;
  }
  double prefill(int64_t pos) const {
    const model::CacheOptions plain{request.cache.type_k, request.cache.type_v};
    const bool reads_all = is_dense(pos) || request.cache.attention->read.role == Role::kDense;
    const bool looks_at_all =
        !reads_all && request.cache.attention->read.role == Role::kSelect && request.cache.attention->read.is_by_keys();
    // A window of the latest tokens is still in memory.
    const double disk = reads_all      ? from_disk(pos, plain, request.batch)
                        : looks_at_all ? from_disk(pos, plain, kBlock)
                                       : 0.0;
    return both((is_dense(pos) ? dense : chosen).prefill.at(pos), disk);
  }
  double decode(int64_t pos) const {
    return both((is_dense(pos) ? dense : chosen).decode.at(pos) + head, from_disk(pos, request.cache, 1));
  }
};

}  // namespace

uint64_t cache_bytes_read(const ModelConfig& config, const model::CacheOptions& cache, int64_t pos) {
  double total = 0;
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const auto& layer = config.layers[static_cast<size_t>(i)];
    if (layer.mixer != "attention") continue;
    const Reading reading = cache.attention == nullptr ? Reading() : cache.attention->reading(pos, true, i);
    const attention::KvLayout layout{layer.n_kv_heads, layer.k_dim, layer.v_dim,
                                     model::cached_type(cache.type_k, layer.window),
                                     model::cached_type(cache.type_v, layer.window)};
    const int64_t rows = layer.window > 0 ? std::min(pos + 1, layer.window) : rows_read(reading, pos);
    total += static_cast<double>(rows) / static_cast<double>(kBlock) * static_cast<double>(layout.block_bytes());
    if (layer.window > 0 || reading.role != Role::kSelect) continue;
    const attention::BlockIndex index(*attention::find_index_kind(reading.index), layout, {});
    const double far = static_cast<double>(std::max<int64_t>(0, reading.window_begin(pos) - reading.sinks) / kBlock);
    std::optional<attention::BlockIndex> coarse;
    if (reading.has_levels()) coarse.emplace(*attention::find_index_kind(reading.coarse), layout, attention::Rotary{});
    total +=
        static_cast<double>(attention::scanned_bytes(reading, index, coarse.has_value() ? &*coarse : nullptr, pos, 1));
    if (!reading.has_remainder()) continue;
    const storage::RegionSpec means = attention::BlockMeans(layout, {}).region();
    total += far / static_cast<double>(kBlock) * static_cast<double>(means.block_bytes);
  }
  return static_cast<uint64_t>(total);
}

uint64_t forecast_memory_bytes(const ggufish::ModelFile& file, const ModelConfig& config) {
  const Part part = choose_part(file, config);
  uint64_t head = 0;
  for (const char* name : {"output.weight", "token_embd.weight"}) {
    const TensorView* view = file.find_tensor(name);
    if (view != nullptr) head = std::max(head, view->size_bytes);
  }
  return part.bytes + head + 2 * kProbeCache + kProbeStream;
}

Result<Forecast> forecast(const ForecastRequest& request, const ModelConfig& config) {
  const auto start = Clock::now();
  Forecast made;
  const Part part = choose_part(*request.file, config);
  Probe probe(request, part);
  LCRUN_TRY(probe.load());
  const model::CacheOptions plain{request.cache.type_k, request.cache.type_v};
  LCRUN_ASSIGN(const Measured dense, probe.measure(plain, 0, false));
  Measured chosen = dense;
  const attention::Attention* policy = request.cache.attention.get();
  if (policy != nullptr) {
    auto always = std::make_shared<attention::Attention>(*policy);
    always->dense_until = 0;
    model::CacheOptions cache = plain;
    cache.attention = always;
    LCRUN_ASSIGN(chosen, probe.measure(cache, always->blocks_at_once() * kBlock + kBlock, true));
  }
  LCRUN_ASSIGN(const double head, probe.time_logits());
  if (request.disk_bytes > 0) {
    LCRUN_ASSIGN(const double rate, disk_rate(request.directory));
    made.disk_gbs = rate / 1e9;
  }
  LCRUN_ASSIGN(const double stream, read_bandwidth(request.n_threads, kProbeStream));
  made.stream_gbs = stream / 1e9;
  made.weight_bytes = weights_of_token(*request.file, config);
  const int64_t last = std::max<int64_t>(0, request.n_ctx - 1);
  made.cache_bytes = cache_bytes_read(config, request.cache, last);
  made.linear_gflops = 2 * linear_operations(*request.file, config) / std::max(dense.prefill.fixed, 1e-12) / 1e9;

  const Costs costs{request, config, dense, chosen, head, made.disk_gbs * 1e9};
  const double step = static_cast<double>(request.n_ctx) / kSteps;
  for (int i = 0; i < kSteps; ++i) {
    made.prefill_seconds += step * costs.prefill(static_cast<int64_t>((i + 0.5) * step));
  }
  made.prefill_tps_begin = 1 / costs.prefill(std::min<int64_t>(last, kProbeRows));
  made.prefill_tps_end = 1 / costs.prefill(last);
  made.decode_tps_begin = 1 / costs.decode(0);
  made.decode_tps_end = 1 / costs.decode(last);
  made.probe_ms = seconds_since(start) * 1e3;
  return made;
}

}  // namespace lcrun::runtime
