#include "src/attention/policy.hpp"

#include <algorithm>
#include <charconv>

#include "src/base/format.hpp"

namespace lcrun::attention {
namespace {

constexpr int64_t kBlock = storage::kBlockTokens;

constexpr Reading stream(int64_t sinks, int64_t window, bool relay = true) {
  return {Role::kStream, sinks, window, relay, {}, 0, Scope::kLayer};
}
constexpr Reading select(std::string_view index, int64_t blocks, Scope scope, int64_t sinks, int64_t window,
                         bool relay = true) {
  return {Role::kSelect, sinks, window, relay, index, blocks, scope};
}

// Parameters are those of the papers where a block of 64 tokens allows; what differs is said in `about`.
constexpr Policy kPolicies[] = {
    {"dense", "Vaswani et al., arXiv 1706.03762, section 3.2", {}, {}, "every key, true positions"},
    {"stream", "StreamingLLM, arXiv 2309.17453, section 3.2", stream(64, 1024), stream(64, 1024),
     "sinks and a window; finds nothing outside them"},
    {"select", "measured (docs/long-context.md)", stream(64, 1024), select({}, 0, Scope::kLayer, 64, 0),
     "streams while it reads; questions and answers choose blocks by an index that suits the heads"},
    {"rekv", "ReKV, arXiv 2503.00540, section 3", stream(64, 1024), select("mean", 64, Scope::kLayer, 64, 1024),
     "one mean key a block, 64 blocks (a frame's 196 tokens become blocks of 64)"},
    {"infllm", "InfLLM, arXiv 2402.04617, section 3", stream(128, 4096), select("sub16", 32, Scope::kLayer, 128, 4096),
     "four representative keys a block (means of 16), packed positions in place of one far distance"},
    {"longheads", "LongHeads, arXiv 2402.10685, section 3", stream(256, 1024),
     select("mean", 52, Scope::kHead, 256, 512), "each head its own chunks; means in place of pooled attention"},
    {"quest",
     "Quest, arXiv 2406.10774, section 3",
     {},
     select("minmax16", 32, Scope::kHead, 64, 64, false),
     "reads densely; bounds of 16 keys, 2,048 tokens a head, true positions"},
    {"hip", "HiP, arXiv 2406.09827; InfiniteHiP, arXiv 2502.08910, section 3", stream(256, 1024),
     select("probe8", 32, Scope::kHead, 256, 1024), "one key of each 8 is probed, 2,048 tokens a head"},
};

const Policy* find_policy(std::string_view name) {
  const auto* row = std::find_if(std::begin(kPolicies), std::end(kPolicies),
                                 [&](const Policy& policy) { return policy.name == name; });
  return row == std::end(kPolicies) ? nullptr : row;
}

// Measured on heads of 64 and of 256 (docs/long-context.md): wide heads are found by means of 8 keys, narrow ones
// only by all keys, and they read worse the more there is to read.
void complete(Reading& reading, const ModelShape& shape) {
  if (reading.role != Role::kSelect) return;
  const bool is_wide = shape.head_dim >= 128;
  if (reading.index.empty()) reading.index = is_wide ? "sub8" : "scan4";
  if (reading.blocks == 0) reading.blocks = is_wide ? 16 : 8;
  if (reading.window == 0) reading.window = is_wide ? 1024 : 256;
}

Result<const Policy*> named(const char* option, std::string_view name) {
  if (const Policy* policy = find_policy(name)) return policy;
  std::string known;
  for (const auto known_name : policy_names()) known += (known.empty() ? "" : ", ") + std::string(known_name);
  return make_error(Code::kInvalidArgument, "{}: found \"{}\", wanted one of {}", option, name, known);
}

}  // namespace

int64_t Reading::window_begin(int64_t pos) const {
  const int64_t begin = pos / kBlock * kBlock - window;
  return begin <= sinks ? 0 : begin;
}

int64_t Slide::gone_until(int64_t pos) const {
  return pos < n_ctx ? 0 : std::max<int64_t>(0, pos / kBlock * kBlock - window);
}

Reading Slide::past_end(Reading reading, int64_t pos) const {
  reading.gone_until = gone_until(pos);
  if (reading.gone_until == 0) return reading;
  reading.sinks = std::min(reading.sinks, sinks);
  reading.window = std::min(reading.window, window);
  return reading;
}

Slide slide_for(int64_t n_ctx, const Attention* attention) {
  Slide slide;
  slide.n_ctx = n_ctx;
  slide.sinks = kBlock;
  if (attention != nullptr) slide.sinks = std::max({slide.sinks, attention->read.sinks, attention->ask.sinks});
  // Whole blocks: sinks, a window, and the block that is being filled. A context too short for all does without sinks.
  const int64_t whole = n_ctx / kBlock * kBlock;
  if (whole < slide.sinks + 2 * kBlock) slide.sinks = 0;
  slide.window = std::max<int64_t>(0, whole - slide.sinks - kBlock);
  return slide;
}

std::span<const Policy> policies() { return kPolicies; }

std::vector<std::string_view> policy_names() {
  std::vector<std::string_view> names{"auto"};
  for (const Policy& policy : kPolicies) names.push_back(policy.name);
  return names;
}

const Reading& Attention::reading(int64_t pos, bool is_asked, int64_t layer) const {
  static const Reading kDense;
  if (pos < dense_until) return kDense;
  if (!is_asked) return read;
  return asks(layer) ? ask : near;
}

const IndexKind* Attention::index() const {
  for (const Reading* reading : {&read, &ask}) {
    if (reading->role == Role::kSelect) return find_index_kind(reading->index);
  }
  return nullptr;
}

int64_t Attention::blocks_at_once() const {
  int64_t most = 0;
  for (const Reading* reading : {&read, &ask}) {
    if (reading->role == Role::kDense) continue;
    most = std::max(most, reading->sinks / kBlock + reading->blocks + reading->window / kBlock + 2);
  }
  return most;
}

std::string Attention::describe() const {
  const auto words = [](const Reading& reading) -> std::string {
    if (reading.role == Role::kDense) return "read everything";
    std::string text = format("read the first {} and the last {} tokens", reading.sinks, reading.window);
    if (reading.role == Role::kSelect)
      text += format(" and {} blocks of 64 found by {}", reading.blocks, reading.index);
    return text;
  };
  std::string text = format("attention {}: ", name);
  if (dense_until > 0)
    text += format("exact for the {} tokens that the model was trained on; after them ", dense_until);
  text += format("text will {}; questions and answers {}", words(read), words(ask));
  if (looks_back.empty()) return text;
  const auto n = std::count(looks_back.begin(), looks_back.end(), true);
  return text + format(", in {} of {} layers", n, looks_back.size());
}

Result<std::vector<int64_t>> parse_layers(const std::string& text, int64_t n_layers) {
  std::vector<int64_t> layers;
  if (text == "all") return layers;
  const auto refused = [&] {
    return make_error(Code::kInvalidArgument,
                      "--attn-layers: found \"{}\", wanted all, or layers of 0 to {} as in 5,11,17-20", text,
                      n_layers - 1);
  };
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    int64_t first = 0;
    auto number = std::from_chars(at, end, first);
    if (number.ec != std::errc()) return refused();
    int64_t last = first;
    if (number.ptr != end && *number.ptr == '-') number = std::from_chars(number.ptr + 1, end, last);
    if (number.ec != std::errc() || first < 0 || last < first || last >= n_layers) return refused();
    for (int64_t layer = first; layer <= last; ++layer) layers.push_back(layer);
    if (number.ptr == end) break;
    if (*number.ptr != ',') return refused();
    at = number.ptr + 1;
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

Status check_policy(const PolicyChoice& choice) {
  if (choice.attention != "auto") LCRUN_TRY(named("--attention", choice.attention));
  if (choice.prefill != "auto") LCRUN_TRY(named("--prefill", choice.prefill));
  if (choice.index == "auto" || find_index_kind(choice.index) != nullptr) return {};
  std::string known = "auto";
  for (const IndexKind& kind : index_kinds()) known += std::string(", ") + kind.name;
  return make_error(Code::kInvalidArgument, "--attn-index: found \"{}\", wanted one of {}", choice.index, known);
}

Result<std::shared_ptr<const Attention>> resolve_policy(const PolicyChoice& choice, const ModelShape& shape) {
  const bool is_auto = choice.attention == "auto";
  LCRUN_TRY(check_policy(choice));
  LCRUN_ASSIGN(const Policy* asked, named("--attention", is_auto ? "select" : choice.attention));
  const bool same = choice.prefill == "auto";
  LCRUN_ASSIGN(const Policy* read, named("--prefill", same ? asked->name : std::string_view(choice.prefill)));
  auto made = std::make_shared<Attention>();
  made->name = asked->name;
  made->prefill = read->name;
  made->n_ctx = shape.n_ctx;
  made->ask = asked->ask;
  made->read = read->read;
  complete(made->ask, shape);
  complete(made->read, shape);
  if (choice.budget > 0 && made->ask.role == Role::kSelect) {
    made->ask.blocks = (choice.budget + kBlock - 1) / kBlock;
  }
  if (is_auto) made->dense_until = shape.n_ctx_train;
  made->near = made->ask;
  if (made->near.role == Role::kSelect) made->near.role = Role::kStream;
  LCRUN_ASSIGN(const auto layers, parse_layers(choice.layers, shape.n_layers));
  if (!layers.empty()) {
    made->looks_back.assign(static_cast<size_t>(shape.n_layers), false);
    for (const int64_t layer : layers) made->looks_back[static_cast<size_t>(layer)] = true;
  }
  if (choice.index != "auto") {
    for (Reading* reading : {&made->ask, &made->read}) {
      if (reading->role == Role::kSelect) reading->index = find_index_kind(choice.index)->name;
    }
  }
  const bool is_dense = made->ask.role == Role::kDense && made->read.role == Role::kDense;
  if (is_dense || shape.head_dim == 0 || made->dense_until >= shape.n_ctx) return std::shared_ptr<const Attention>();
  return std::shared_ptr<const Attention>(std::move(made));
}

}  // namespace lcrun::attention
