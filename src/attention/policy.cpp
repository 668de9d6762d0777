#include "src/attention/policy.hpp"

#include <algorithm>
#include <charconv>

#include "src/base/format.hpp"

namespace lcrun::attention {
namespace {

constexpr int64_t kBlock = storage::kBlockTokens;
constexpr int64_t kShortlist = 512;  // blocks

constexpr Reading stream(int64_t sinks, int64_t window, Positions positions = Positions::kRelay) {
  return {Role::kStream, sinks, window, {positions}, {}, 0, Scope::kLayer};
}
constexpr Reading holding(double mass, Reading reading) {
  reading.mass = mass;
  return reading;
}
constexpr Reading select(std::string_view index, int64_t blocks, Scope scope, int64_t sinks, int64_t window,
                         Positions positions = Positions::kRelay) {
  return {Role::kSelect, sinks, window, {positions}, index, blocks, scope};
}
constexpr Reading choosing(Choice choice, Reading reading) {
  reading.choice = choice;
  return reading;
}
constexpr Reading shortlisted(std::string_view coarse, int64_t blocks, Reading reading) {
  reading.coarse = coarse;
  reading.shortlist = blocks;
  return reading;
}
constexpr Reading leaving(Remainder remainder, Reading reading) {
  reading.remainder = remainder;
  return reading;
}
constexpr Reading every(int64_t tokens, Reading reading) {
  reading.cadence = tokens;
  return reading;
}
constexpr Reading dense(Positions positions) { return {Role::kDense, 0, 0, {positions}, {}, 0, Scope::kLayer}; }

// Parameters are those of the papers where a block of 64 tokens allows; what differs is said in `about`.
std::vector<Policy> rows_for_questions() {
  return {
      {"dense", "Vaswani et al., arXiv 1706.03762, section 3.2", {}, {}, "every key, true positions"},
      {"stream", "StreamingLLM, arXiv 2309.17453, section 3.2", stream(64, 1024), stream(64, 1024),
       "sinks and a window; finds nothing outside them"},
      {"select", "measured (docs/long-context.md)", stream(64, 1024), select({}, 0, Scope::kLayer, 64, 0),
       "streams while it reads; questions and answers choose blocks by an index that suits the heads"},
      {"rekv", "ReKV, arXiv 2503.00540, section 3", stream(64, 1024), select("mean", 64, Scope::kLayer, 64, 1024),
       "one mean key a block, 64 blocks (a frame's 196 tokens become blocks of 64)"},
      {"infllm", "InfLLM, arXiv 2402.04617, section 3", stream(128, 4096),
       select("sub16", 32, Scope::kLayer, 128, 4096),
       "four representative keys a block (means of 16), packed positions in place of one far distance"},
      {"longheads", "LongHeads, arXiv 2402.10685, section 3", stream(256, 1024),
       select("mean", 52, Scope::kHead, 256, 512), "each head its own chunks; means in place of pooled attention"},
      {"quest",
       "Quest, arXiv 2406.10774, section 3",
       {},
       select("minmax16", 32, Scope::kHead, 64, 64, Positions::kTrue),
       "reads densely; bounds of 16 keys, 2,048 tokens a head, true positions"},
      {"hip", "HiP, arXiv 2406.09827; InfiniteHiP, arXiv 2502.08910, section 3", stream(256, 1024),
       select("probe8", 32, Scope::kHead, 256, 1024), "one key of each 8 is probed, 2,048 tokens a head"},
      {"infinitehip", "InfiniteHiP, arXiv 2502.08910, section 3.2", stream(256, 1024),
       every(8, shortlisted("probe8", 512, select("scan4", 32, Scope::kHead, 256, 1024))),
       "one key of each 8 leaves 32,768 tokens a head, all their keys in 4 bits leave 2,048; two stages in place of "
       "three, both chosen anew every 8 tokens; no dense layers"},
      {"sparf", "SparF (InstInfer), arXiv 2409.04992; SparQ, arXiv 2312.04985, section 3.2", stream(64, 1024),
       leaving(Remainder::kMean, choosing(Choice::kStrips, select("mean", 32, Scope::kHead, 64, 256))),
       "a quarter of the keys' channels chooses among four times as many blocks by their mean keys; what is not read "
       "counts by the mean value; blocks in place of tokens"},
      {"bestfirst", "Quest's bounds, arXiv 2406.10774, section 3, searched best first", stream(64, 1024),
       choosing(Choice::kExact, select("minmax16", 32, Scope::kLayer, 64, 256)),
       "the blocks whose best keys have the largest shares, exactly: keys are looked at until no bound promises more"},
      {"dca", "dual chunk attention (ChunkLlama), arXiv 2402.17463, section 3", dense(Positions::kChunk),
       dense(Positions::kChunk), "every key, at distances of at most 3/4 of the trained context"},
      {"selfextend", "Self-Extend, arXiv 2401.01325, section 3", dense(Positions::kGroup), dense(Positions::kGroup),
       "every key; distances beyond 1/8 of the trained context are divided until half of it holds them; by blocks"},
  };
}

// The same, of those that choose while they read.
std::vector<Policy> rows_for_text() {
  return {
      {"recall", "measured (docs/long-context.md)", choosing(Choice::kTile, select({}, 0, Scope::kLayer, 64, 0)),
       select({}, 0, Scope::kLayer, 64, 0), "`select` for text that is read, too: 64 tokens choose together"},
      {"flexprefill",
       "FlexPrefill, arXiv 2502.20766, section 3",
       choosing(Choice::kDivergence, holding(0.9, select({}, 64, Scope::kHead, 128, 512, Positions::kTrue))),
       {},
       "64 queries together read as many blocks as hold 90 % of a head's attention, at most 4,096 tokens, by their "
       "mean and mean keys where that is like what 8 of them attend to, else by those; true positions, answers are "
       "dense"},
      {"xattention",
       "XAttention, arXiv 2503.16428, section 2",
       choosing(Choice::kAntidiagonal, holding(0.9, select({}, 64, Scope::kHead, 128, 512, Positions::kTrue))),
       {},
       "64 queries together read as many blocks as hold 90 % of a head's attention, by antidiagonals of 8 x 8, at most "
       "4,096 tokens, at true positions; answers are dense"},
      {"minference",
       "MInference, arXiv 2407.02490, section 3",
       choosing(Choice::kSampled, select({}, 64, Scope::kHead, 128, 512, Positions::kTrue)),
       {},
       "64 queries together read the 64 blocks that 8 of them attend to most: columns and diagonals to within blocks, "
       "found for each 64 and not once for a prompt, without a file of patterns; true positions, answers are dense"},
      {"moc", "Mixture of Contexts, arXiv 2508.21058, section 3",
       select("mean", 20, Scope::kHead, 64, 256, Positions::kTrue),
       select("mean", 20, Scope::kHead, 64, 256, Positions::kTrue),
       "every query its ranges by their mean keys, beside the first and the latest; ranges of 64 tokens, true "
       "positions"},
  };
}

const std::vector<Policy>& table() {
  static const std::vector<Policy> kPolicies = [] {
    std::vector<Policy> rows = rows_for_questions();
    for (const Policy& row : rows_for_text()) rows.push_back(row);
    return rows;
  }();
  return kPolicies;
}

const Policy* find_policy(std::string_view name, const PolicyRows* more) {
  const auto is_named = [&](const Policy& policy) { return policy.name == name; };
  if (more != nullptr) {
    const auto row = std::find_if(more->rows.begin(), more->rows.end(), is_named);
    if (row != more->rows.end()) return &*row;
  }
  const auto row = std::find_if(table().begin(), table().end(), is_named);
  return row == table().end() ? nullptr : &*row;
}

// Measured on heads of 64 and of 256 (docs/long-context.md): only all keys find what a million tokens hide in other
// words, and every block that is read beside the right one misleads. Means of 8 keys leave the right one among 512
// where heads are wide. Narrow heads read worse for a long window, too.
Status complete(Reading& reading, const ModelShape& shape) {
  const bool is_wide = shape.head_dim >= 128;
  if (reading.role == Role::kSelect) {
    if (reading.blocks == 0) reading.blocks = 8;
    if (reading.window == 0) reading.window = is_wide ? 1024 : 256;
    if (reading.index.empty() && reading.needs_index()) {
      reading.index = "scan4";
      const bool may_list = reading.choice == Choice::kQuery || reading.choice == Choice::kTile;
      if (is_wide && may_list && reading.coarse.empty()) {
        reading.coarse = "sub8";
        reading.shortlist = std::max(kShortlist, 4 * reading.blocks);
      }
    }
  }
  const int64_t window = reading.role == Role::kDense ? 0 : reading.window;
  LCRUN_ASSIGN(reading.positions, make_positions(reading.positions.kind, shape.n_ctx, shape.n_ctx_train, window));
  return {};
}

// Positions as the user wants them, where those of the rows will not do.
Status extend(const PolicyChoice& choice, const ModelShape& shape, Attention& attention) {
  if (choice.extend == "relay" && attention.ask.role == Role::kDense) {
    return make_error(Code::kInvalidArgument,
                      "--extend relay: found --attention {}, wanted one that chooses what it reads", attention.name);
  }
  const bool is_past = shape.n_ctx > shape.n_ctx_train;
  for (Reading* reading : {&attention.read, &attention.ask}) {
    const bool is_dense = reading->role == Role::kDense;
    if (choice.extend == "none") reading->positions = {Positions::kTrue};
    if (choice.extend == "relay") reading->positions = {Positions::kRelay};
    if (choice.extend == "dca" && is_dense && is_past) reading->positions = {Positions::kChunk};
  }
  return {};
}

// In a sentence.
std::string words(const Reading& reading) {
  const PositionMap& map = reading.positions;
  std::string text = "read everything";
  if (reading.role != Role::kDense) {
    text = format("read the first {} and the last {} tokens", reading.sinks, reading.window);
    if (reading.role == Role::kSelect) {
      text += format(" and {} blocks of 64 found by {}", reading.blocks,
                     reading.needs_index() ? reading.index : name_of(reading.choice));
    }
    if (reading.cadence > 1) text += format(" every {} tokens", reading.cadence);
    if (reading.has_levels()) text += format(" among {} found by {}", reading.most_listed(), reading.coarse);
    if (reading.remainder == Remainder::kBlocks) text += ", the others by their means";
    if (reading.remainder == Remainder::kMean) text += ", the others by one mean";
    if (map.kind == Positions::kTrue) text += " at true positions";
  }
  if (map.kind == Positions::kClip) text += format(", none farther than {} tokens", map.near);
  if (map.kind == Positions::kGroup) text += format(", distances beyond {} divided by {}", map.near, map.group);
  if (map.kind == Positions::kChunk) text += format(" in chunks of {}, none farther than {}", map.chunk, map.limit);
  return text;
}

Result<const Policy*> named(const char* option, std::string_view name, const PolicyRows* more) {
  if (const Policy* policy = find_policy(name, more)) return policy;
  std::string known;
  for (const auto& known_name : policy_names(more)) known += (known.empty() ? "" : ", ") + known_name;
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

const char* name_of(Role role) {
  constexpr const char* kNames[] = {"dense", "stream", "select"};
  return kNames[static_cast<size_t>(role)];
}

const char* name_of(Scope scope) { return scope == Scope::kHead ? "head" : "layer"; }

const char* name_of(Choice choice) {
  constexpr const char* kNames[] = {"query", "tile", "exact", "strips", "antidiagonal", "sampled", "divergence"};
  return kNames[static_cast<size_t>(choice)];
}

const char* name_of(Remainder remainder) {
  constexpr const char* kNames[] = {"none", "blocks", "mean"};
  return kNames[static_cast<size_t>(remainder)];
}

std::span<const Policy> policies() { return table(); }

std::vector<std::string> policy_names(const PolicyRows* more) {
  std::vector<std::string> names{"auto"};
  for (const Policy& policy : table()) names.push_back(policy.name);
  if (more != nullptr) {
    for (const Policy& policy : more->rows) names.push_back(policy.name);
  }
  return names;
}

bool is_policy_name(std::string_view name) { return name == "auto" || find_policy(name, nullptr) != nullptr; }

AttentionStats& AttentionStats::operator+=(const AttentionStats& other) {
  queries += other.queries;
  blocks += other.blocks;
  kv_bytes += other.kv_bytes;
  scanned_bytes += other.scanned_bytes;
  selector_seconds += other.selector_seconds;
  return *this;
}

AttentionStats AttentionStats::operator-(const AttentionStats& other) const {
  return {queries - other.queries, blocks - other.blocks, kv_bytes - other.kv_bytes,
          scanned_bytes - other.scanned_bytes, selector_seconds - other.selector_seconds};
}

bool Attention::is_anchor(int64_t layer) const {
  for (size_t i = 0; i < roles.plan_from.size(); ++i) {
    if (static_cast<int64_t>(i) != layer && roles.plan_from[i] == layer) return true;
  }
  return false;
}

bool Attention::keeps_index(int64_t layer) const {
  if (index() == nullptr) return false;
  if (!indexed.empty()) return indexed[static_cast<size_t>(layer)];
  return anchor_of(layer) == layer && (read.needs_index() || (asks(layer) && ask.needs_index()));
}

bool Attention::keeps_means(int64_t layer) const {
  if (!averaged.empty()) return averaged[static_cast<size_t>(layer)];
  return read.has_remainder() || (ask.has_remainder() && asks(layer));
}

const Reading& Attention::reading(int64_t pos, bool is_asked, int64_t layer) const {
  static const Reading kDense;
  if (pos < dense_until) return kDense;
  if (!is_asked) return read;
  return asks(layer) ? ask : near;
}

const IndexKind* Attention::index() const {
  for (const Reading* reading : {&read, &ask}) {
    if (reading->needs_index()) return find_index_kind(reading->index);
  }
  return nullptr;
}

const IndexKind* Attention::coarse_index() const {
  for (const Reading* reading : {&ask, &read}) {
    if (reading->has_levels()) return find_index_kind(reading->coarse);
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
  std::string text = format("attention {}: ", name);
  if (dense_until > 0)
    text += format("exact for the {} tokens that the model was trained on; after them ", dense_until);
  text += format("text will {}; questions and answers {}", words(read), words(ask));
  if (!roles.looks_back.empty()) {
    const auto n = std::count(roles.looks_back.begin(), roles.looks_back.end(), true);
    text += format(", in {} of {} layers", n, roles.looks_back.size());
  }
  int64_t shared = 0;
  for (size_t i = 0; i < roles.plan_from.size(); ++i) shared += roles.plan_from[i] != static_cast<int64_t>(i);
  return shared > 0 ? text + format(", {} of which take over the blocks of another layer", shared) : text;
}

Result<std::vector<int64_t>> parse_layers(const std::string& what, const std::string& text, int64_t n_layers) {
  std::vector<int64_t> layers;
  if (text == "all") return layers;
  const auto refused = [&] {
    return make_error(Code::kInvalidArgument, "{}: found \"{}\", wanted all, or layers of 0 to {} as in 5,11,17-20",
                      what, text, n_layers - 1);
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

Result<Roles> resolve_roles(const LayerRoles& layers, const Reading& ask, const ModelShape& shape,
                            const std::string& what) {
  Roles roles;
  const auto n = static_cast<size_t>(shape.n_layers);
  LCRUN_ASSIGN(const auto looking, parse_layers(what, layers.look_back, shape.n_layers));
  if (!looking.empty()) roles.looks_back.assign(n, false);
  for (const int64_t layer : looking) roles.looks_back[static_cast<size_t>(layer)] = true;
  if (layers.plan_from.empty()) return roles;
  roles.plan_from.resize(n);
  for (size_t i = 0; i < n; ++i) roles.plan_from[i] = static_cast<int64_t>(i);
  for (const PlanSharing& sharing : layers.plan_from) {
    LCRUN_ASSIGN(const auto users, parse_layers(what + ", plan_from", sharing.layers, shape.n_layers));
    for (const int64_t user : users) roles.plan_from[static_cast<size_t>(user)] = sharing.anchor;
    if (users.empty()) return make_error(Code::kInvalidArgument, "{}, plan_from: wanted a list of layers", what);
  }
  const auto heads = [&](int64_t layer) {
    return shape.kv_heads.empty() ? 1 : shape.kv_heads[static_cast<size_t>(layer)];
  };
  for (size_t i = 0; i < n; ++i) {
    const auto user = static_cast<int64_t>(i);
    const int64_t anchor = roles.plan_from[i];
    if (anchor == user) continue;
    const bool is_there = anchor >= 0 && anchor < user && roles.plan_from[static_cast<size_t>(anchor)] == anchor;
    const bool chooses =
        is_there && heads(anchor) > 0 && (roles.looks_back.empty() || roles.looks_back[static_cast<size_t>(anchor)]);
    const bool fits = chooses && (ask.scope == Scope::kLayer || heads(anchor) == heads(user));
    if (fits || heads(user) == 0) continue;
    return make_error(Code::kInvalidArgument,
                      "{}, plan_from: layer {}: found anchor {}, wanted a layer before it that chooses blocks of its "
                      "own, for as many KV heads where each has its own",
                      what, user, anchor);
  }
  return roles;
}

Status check_policy(const PolicyChoice& choice) {
  if (choice.attention != "auto") LCRUN_TRY(named("--attention", choice.attention, choice.rows.get()));
  if (choice.prefill != "auto") LCRUN_TRY(named("--prefill", choice.prefill, choice.rows.get()));
  if (choice.cadence != 0 && (choice.cadence < 0 || kBlock % choice.cadence != 0)) {
    return make_error(Code::kInvalidArgument, "--attn-cadence: found {}, wanted a divisor of {}", choice.cadence,
                      kBlock);
  }
  if (choice.index == "auto" || find_index_kind(choice.index) != nullptr) return {};
  std::string known = "auto";
  for (const IndexKind& kind : index_kinds()) known += std::string(", ") + kind.name;
  return make_error(Code::kInvalidArgument, "--attn-index: found \"{}\", wanted one of {}", choice.index, known);
}

Result<std::shared_ptr<const Attention>> resolve_policy(const PolicyChoice& choice, const ModelShape& shape) {
  const bool is_auto = choice.attention == "auto";
  const PolicyRows* rows = choice.rows.get();
  LCRUN_TRY(check_policy(choice));
  const bool is_dense_wanted = choice.extend != "auto" && choice.extend != "relay";
  const std::string beyond = rows != nullptr && !rows->auto_name.empty() ? rows->auto_name : "select";
  const std::string own = is_dense_wanted ? "dense" : beyond;
  LCRUN_ASSIGN(const Policy* asked, named("--attention", is_auto ? own : choice.attention, rows));
  const bool same = choice.prefill == "auto";
  LCRUN_ASSIGN(const Policy* read, named("--prefill", same ? asked->name : choice.prefill, rows));
  auto made = std::make_shared<Attention>();
  made->name = asked->name;
  made->prefill = read->name;
  made->n_ctx = shape.n_ctx;
  made->n_ctx_train = shape.n_ctx_train;
  made->ask = asked->ask;
  made->read = read->read;
  LCRUN_TRY(extend(choice, shape, *made));
  if (choice.budget > 0) made->ask.blocks = (choice.budget + kBlock - 1) / kBlock;
  for (Reading* reading : {&made->ask, &made->read}) {
    if (choice.index != "auto" && reading->needs_index()) reading->index = find_index_kind(choice.index)->name;
    LCRUN_TRY(complete(*reading, shape));
  }
  if (choice.cadence > 0) made->ask.cadence = choice.cadence;
  // Within the trained context true positions are as good as any.
  const bool is_everything = made->read.role == Role::kDense && made->ask.role == Role::kDense;
  if (is_auto || is_everything) made->dense_until = shape.n_ctx_train;
  made->near = made->ask;
  if (made->near.role == Role::kSelect) made->near.role = Role::kStream;
  const bool own_layers = choice.layers == "auto";
  LCRUN_ASSIGN(made->roles, resolve_roles(own_layers ? asked->layers : LayerRoles{choice.layers, {}}, made->ask, shape,
                                          own_layers ? format("{}, layers", asked->name) : "--attn-layers"));
  // A layer keeps one index: questions decide.
  if (made->ask.needs_index() && made->read.needs_index()) made->read.index = made->ask.index;
  if (made->ask.has_levels() && made->read.has_levels()) made->read.coarse = made->ask.coarse;
  for (const Reading* reading : {&made->ask, &made->read}) {
    const bool reads_keys = reading->choice == Choice::kExact || reading->choice == Choice::kStrips;
    if (reading->has_levels() && reads_keys) {
      return make_error(Code::kInvalidArgument, "{}: found coarse index {}, wanted none before a choice of {}",
                        made->name, reading->coarse, name_of(reading->choice));
    }
    if (reading->role != Role::kSelect || reading->choice != Choice::kExact) continue;
    if (find_index_kind(reading->index)->reduce == IndexReduce::kBounds) continue;
    return make_error(Code::kInvalidArgument,
                      "{}: found index {}, wanted bounds (minmax, minmax16) for an exact choice", made->name,
                      reading->index);
  }
  const auto is_plain = [](const Reading& reading) {
    return reading.role == Role::kDense && !reading.positions.moves();
  };
  const bool is_dense = is_plain(made->ask) && is_plain(made->read);
  if (is_dense || shape.head_dim == 0 || made->dense_until >= shape.n_ctx) return std::shared_ptr<const Attention>();
  return std::shared_ptr<const Attention>(std::move(made));
}

}  // namespace lcrun::attention
