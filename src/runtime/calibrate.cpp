#include "src/runtime/calibrate.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "src/attention/probe.hpp"
#include "src/attention/recall.hpp"
#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::runtime {
namespace {

using attention::Roles;

constexpr int64_t kTextTokens = 96;  // of ordinary text at the end of a case, asked and scored
constexpr size_t kTextCases = 3;     // that this is done with
constexpr int64_t kGroups = 4;       // that layers are removed in at first

// A case whose text has been read.
struct Prepared {
  const EvalCase* made = nullptr;
  std::vector<Token> prompt;  // with the question
  std::vector<Token> answer;
  storage::SequenceState before_text;  // kTextTokens before the end of the text
  storage::SequenceState text;
  bool counts = false;  // it is answered with all layers
};

// The likelihood of tokens that come one after another.
struct Likelihood {
  double sum = 0;
  int64_t n = 0;
  bool all_likeliest = true;

  void add(std::span<const float> logits, Token token) {
    const auto id = static_cast<size_t>(token);
    sum += kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size())) - static_cast<double>(logits[id]);
    all_likeliest = all_likeliest && *std::max_element(logits.begin(), logits.end()) == logits[id];
    ++n;
  }
  double mean() const { return n > 0 ? sum / static_cast<double>(n) : 0; }
};

std::span<const Token> first_of(const std::vector<Token>& tokens, int64_t n) {
  return std::span(tokens).first(static_cast<size_t>(n));
}

// The likelihood of `tokens` after what the session holds, whose last logits are there; all of them are asked.
Status score_tokens(Session& session, std::span<const Token> tokens, Likelihood& found) {
  found.add(session.logits(), tokens.front());
  if (tokens.size() == 1) return {};
  const auto rest = tokens.first(tokens.size() - 1);
  const auto start = static_cast<int64_t>(session.tokens().size());
  return session.score(rest, static_cast<int64_t>(rest.size()),
                       [&](int64_t pos, std::span<const float> logits) -> Status {
                         found.add(logits, tokens[static_cast<size_t>(pos - start + 1)]);
                         return {};
                       });
}

class Search {
 public:
  Search(Session& session, const text::Tokenizer& tokenizer, const CalibrationRequest& request,
         const CalibrationProgress& progress)
      : session_(session), tokenizer_(tokenizer), request_(request), progress_(progress) {}

  Result<Calibration> run();

 private:
  struct Looked {
    std::vector<double> mass;  // by candidate, summed over cases
    int64_t n = 0;
  };
  Result<Prepared> prepare(const EvalCase& made);
  Status look(const Prepared& one, Looked& looked);
  Status answer(const Prepared& one, RoleScore& score, bool& is_right);
  Status score_text(const Prepared& one, double& nll);
  Result<RoleScore> score(std::span<Prepared> cases, const Roles& roles);
  Status measure_all();
  Status sort_layers();

  Roles roles_of(std::span<const int64_t> layers, std::span<const int64_t> plan_from = {}) const;
  bool is_allowed(const RoleScore& score) const;
  Result<bool> try_without(std::span<const int64_t> gone);
  Status remove_group(std::span<const int64_t> group);
  Status remove_singly();
  Status share_plans();
  Status check();
  Status say(const std::string& what) {
    if (progress_ && !progress_(found_.tried, what)) return make_error(Code::kCancelled, "the calibration was stopped");
    return {};
  }

  Session& session_;
  const text::Tokenizer& tokenizer_;
  const CalibrationRequest& request_;
  const CalibrationProgress& progress_;
  std::vector<Prepared> cases_;
  std::vector<int64_t> candidates_;  // layers that see everything, ascending
  std::vector<int64_t> order_;       // the same, by mass, the least first
  std::vector<int64_t> kept_;        // ascending
  std::vector<int64_t> plan_from_;   // [n_layers]
  RoleScore allowed_from_;           // with all layers
  Calibration found_;
};

Result<Prepared> Search::prepare(const EvalCase& made) {
  Prepared one;
  one.made = &made;
  one.prompt = made.prompt();
  const std::string answer = (made.adds_blank ? " " : "") + made.answers.front();
  const text::Span span{answer, false};
  one.answer = tokenizer_.encode_continuation({&span, 1});
  if (one.answer.empty()) return make_error(Code::kInternal, "an answer without tokens");
  session_.clear();
  const int64_t before = std::max<int64_t>(1, made.n_text - kTextTokens);
  LCRUN_TRY(session_.sync(first_of(one.prompt, before), {}, INT64_MAX));
  LCRUN_ASSIGN(one.before_text, session_.fork());
  LCRUN_TRY(session_.sync(first_of(one.prompt, made.n_text), {}, INT64_MAX));
  LCRUN_ASSIGN(one.text, session_.fork());
  return one;
}

Status Search::score_text(const Prepared& one, double& nll) {
  Likelihood text;
  const int64_t before = one.before_text.tokens();
  LCRUN_TRY(session_.continue_from(one.before_text, first_of(one.prompt, before)));
  // The first token is read again: its logits are those of what follows.
  LCRUN_TRY(session_.sync(first_of(one.prompt, before + 1), {}, before));
  const auto rest = first_of(one.prompt, one.made->n_text).subspan(static_cast<size_t>(before) + 1);
  LCRUN_TRY(score_tokens(session_, rest, text));
  nll += text.mean();
  return {};
}

Status Search::answer(const Prepared& one, RoleScore& score, bool& is_right) {
  Likelihood answer;
  LCRUN_TRY(session_.continue_from(one.text, first_of(one.prompt, one.made->n_text)));
  LCRUN_TRY(session_.sync(one.prompt, {}, one.made->n_text));
  LCRUN_TRY(score_tokens(session_, one.answer, answer));
  is_right = answer.all_likeliest;
  score.nll += answer.mean();
  score.right += is_right ? 1 : 0;
  ++score.cases;
  return {};
}

Result<RoleScore> Search::score(std::span<Prepared> cases, const Roles& roles) {
  LCRUN_TRY(session_.assign_roles(roles));
  RoleScore score;
  for (Prepared& one : cases) {
    if (!one.counts) continue;
    bool is_right = false;
    LCRUN_TRY(answer(one, score, is_right));
  }
  const size_t n_texts = std::min(cases.size(), kTextCases);
  for (const Prepared& one : cases.first(n_texts)) LCRUN_TRY(score_text(one, score.text_nll));
  score.nll /= static_cast<double>(std::max<int64_t>(1, score.cases));
  score.text_nll /= static_cast<double>(std::max<size_t>(1, n_texts));
  ++found_.tried;
  return score;
}

// What the layers' heads attend to while the answer is given, and what their choice holds of it.
Status Search::look(const Prepared& one, Looked& looked) {
  std::vector<attention::WatchedHead> heads;
  std::vector<size_t> owner;  // by slot: the candidate
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const auto& layer = session_.model().config().layers[static_cast<size_t>(candidates_[i])];
    for (int64_t head = 0; head < layer.n_heads; ++head) {
      heads.push_back({candidates_[i], head, static_cast<int64_t>(owner.size())});
      owner.push_back(i);
    }
  }
  attention::AttnProbe probe(heads);
  const auto last = static_cast<int64_t>(one.prompt.size()) - 1;
  probe.watch(last, INT64_MAX);
  session_.watch(&probe);
  Likelihood unused;
  Status done = session_.continue_from(one.text, first_of(one.prompt, one.made->n_text));
  if (done.has_value()) {
    const auto logits = session_.sync(one.prompt, {}, one.made->n_text);
    done = logits.has_value() ? score_tokens(session_, one.answer, unused) : Status(Error(logits.error()));
  }
  session_.watch(nullptr);
  LCRUN_TRY(std::move(done));
  const Replacement& hidden = one.made->hidden.front();
  std::vector<double> best(candidates_.size());
  for (size_t slot = 0; slot < owner.size(); ++slot) {
    const auto mass = probe.mass(hidden.at, hidden.end(), static_cast<int64_t>(slot));
    best[owner[slot]] = std::max(best[owner[slot]], std::accumulate(mass.begin(), mass.end(), 0.0));
  }
  for (size_t i = 0; i < best.size(); ++i) looked.mass[i] += best[i] / static_cast<double>(one.answer.size());
  ++looked.n;
  return {};
}

Roles Search::roles_of(std::span<const int64_t> layers, std::span<const int64_t> plan_from) const {
  Roles roles;
  roles.looks_back.assign(static_cast<size_t>(session_.model().config().n_layers), false);
  for (const int64_t layer : layers) roles.looks_back[static_cast<size_t>(layer)] = true;
  roles.plan_from.assign(plan_from.begin(), plan_from.end());
  return roles;
}

// All layers: which cases count, and how they do.
Status Search::measure_all() {
  const Roles all = roles_of(candidates_);
  LCRUN_TRY(session_.assign_roles(all));
  for (const EvalCase& made : request_.cases) {
    LCRUN_TRY(say("reading"));
    LCRUN_ASSIGN(auto one, prepare(made));
    RoleScore alone;
    LCRUN_TRY(answer(one, alone, one.counts));
    if (one.counts) cases_.push_back(std::move(one));  // what is not found by all layers says nothing of one
  }
  if (cases_.size() < 2) {
    return make_error(Code::kUnsupported,
                      "calibrate: with all layers looking back the model answers {} of {} questions about this text; "
                      "wanted at least 2. Supported: another text (-f), other --lengths",
                      cases_.size(), request_.cases.size());
  }
  LCRUN_ASSIGN(found_.all, score(cases_, all));
  allowed_from_ = found_.all;
  return {};
}

Status Search::sort_layers() {
  Looked looked;
  looked.mass.resize(candidates_.size());
  attention::RecallMeter meter(session_.model().config().n_ctx_train);
  session_.show_plans_to({&meter});
  Status done;
  for (const Prepared& one : cases_) {
    meter.sample(static_cast<int64_t>(one.prompt.size()) - 1, 2, 2);
    done = look(one, looked);
    if (!done.has_value()) break;
  }
  session_.show_plans_to({});
  LCRUN_TRY(std::move(done));
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const auto recall = meter.layers().find(candidates_[i]);
    found_.layers.push_back({candidates_[i], looked.mass[i] / static_cast<double>(looked.n),
                             recall == meter.layers().end() ? 0 : recall->second.mean(), true, candidates_[i]});
  }
  std::vector<LayerFinding> sorted = found_.layers;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const LayerFinding& a, const LayerFinding& b) { return a.mass < b.mass; });
  for (const LayerFinding& one : sorted) order_.push_back(one.layer);
  return {};
}

bool Search::is_allowed(const RoleScore& score) const {
  return score.nll <= allowed_from_.nll + request_.most_loss && score.right >= allowed_from_.right &&
         score.text_nll <= allowed_from_.text_nll * (1 + request_.most_rise / 100);
}

std::vector<int64_t> without(const std::vector<int64_t>& layers, std::span<const int64_t> gone) {
  std::vector<int64_t> left;
  for (const int64_t layer : layers) {
    if (std::find(gone.begin(), gone.end(), layer) == gone.end()) left.push_back(layer);
  }
  return left;
}

Result<bool> Search::try_without(std::span<const int64_t> gone) {
  const std::vector<int64_t> left = without(kept_, gone);
  if (left.empty()) return false;  // one is left to look back
  LCRUN_TRY(say(format("{} of {} layers", left.size(), candidates_.size())));
  LCRUN_ASSIGN(const auto found, score(cases_, roles_of(left)));
  log(LogLevel::kDebug, "without {}: nll {}, text {}, right {} of {}", layers_text(gone), found.nll, found.text_nll,
      found.right, found.cases);
  if (!is_allowed(found)) return false;
  kept_ = left;
  found_.kept = found;
  return true;
}

Status Search::remove_group(std::span<const int64_t> group) {
  if (group.empty()) return {};
  LCRUN_ASSIGN(const bool is_gone, try_without(group));
  if (is_gone || group.size() == 1) return {};
  LCRUN_TRY(remove_group(group.first(group.size() / 2)));
  return remove_group(group.subspan(group.size() / 2));
}

// The layer that is missed least, again and again.
Status Search::remove_singly() {
  while (kept_.size() > 1) {
    std::optional<std::pair<double, int64_t>> least;
    for (const int64_t layer : kept_) {
      LCRUN_TRY(say(format("{} of {} layers", kept_.size() - 1, candidates_.size())));
      LCRUN_ASSIGN(const auto found, score(cases_, roles_of(without(kept_, {&layer, 1}))));
      if (is_allowed(found) && (!least.has_value() || found.nll < least->first)) least = {found.nll, layer};
    }
    if (!least.has_value()) return {};
    LCRUN_TRY(try_without({&least->second, 1}));
  }
  return {};
}

// Upwards: a layer takes over the blocks of the last one that chose for itself, if that costs no more than is allowed.
Status Search::share_plans() {
  const auto n_layers = static_cast<size_t>(session_.model().config().n_layers);
  plan_from_.resize(n_layers);
  std::iota(plan_from_.begin(), plan_from_.end(), int64_t{0});
  found_.shared = found_.kept;
  if (!request_.share || kept_.empty()) return {};
  int64_t anchor = kept_.front();
  for (const int64_t layer : kept_) {
    const auto heads = [&](int64_t i) { return session_.model().config().layers[static_cast<size_t>(i)].n_kv_heads; };
    if (layer == anchor) continue;
    const bool fits = session_.attention()->ask.scope == attention::Scope::kLayer || heads(layer) == heads(anchor);
    plan_from_[static_cast<size_t>(layer)] = fits ? anchor : layer;
    LCRUN_TRY(say(format("layer {} with the blocks of {}", layer, anchor)));
    LCRUN_ASSIGN(const auto found, score(cases_, roles_of(kept_, plan_from_)));
    if (fits && is_allowed(found)) {
      found_.shared = found;
      continue;
    }
    plan_from_[static_cast<size_t>(layer)] = layer;
    anchor = layer;
  }
  return {};
}

// On cases that the search has not seen. What came of sharing goes first, then layers come back.
Status Search::check() {
  cases_.clear();  // their caches make room
  std::vector<Prepared> others;
  for (const EvalCase& made : request_.held_out) {
    LCRUN_TRY(say("reading"));
    LCRUN_ASSIGN(auto one, prepare(made));
    one.counts = true;
    others.push_back(std::move(one));
  }
  LCRUN_ASSIGN(found_.held_out_all, score(others, roles_of(candidates_)));
  std::vector<int64_t> gone(order_.rbegin(), order_.rend());  // most mass first
  std::erase_if(gone, [&](int64_t layer) { return std::find(kept_.begin(), kept_.end(), layer) != kept_.end(); });
  while (true) {
    LCRUN_TRY(say("checking"));
    LCRUN_ASSIGN(found_.held_out_kept, score(others, roles_of(kept_, plan_from_)));
    if (found_.held_out_kept.right >= found_.held_out_all.right) return {};
    const std::vector<int64_t> shared = plan_from_;
    std::iota(plan_from_.begin(), plan_from_.end(), int64_t{0});
    if (plan_from_ != shared) continue;
    if (gone.empty()) return {};
    kept_.push_back(gone.front());
    std::sort(kept_.begin(), kept_.end());
    gone.erase(gone.begin());
    ++found_.come_back;
  }
}

Result<Calibration> Search::run() {
  const attention::Attention* policy = session_.attention();
  const model::ModelConfig& config = session_.model().config();
  for (int64_t i = 0; i < config.n_layers; ++i) {
    const model::LayerConfig& layer = config.layers[static_cast<size_t>(i)];
    const bool sees_all = layer.mixer == "attention" && layer.window == 0;
    if (sees_all && policy != nullptr && policy->keeps_index(i)) candidates_.push_back(i);
  }
  const bool chooses = policy != nullptr && policy->ask.role == attention::Role::kSelect && policy->dense_until == 0;
  const bool streams = chooses && policy->read.role == attention::Role::kStream;
  if (candidates_.empty() || !streams) {
    return make_error(Code::kInvalidArgument,
                      "calibrate: wanted a model with layers that see everything, and an --attention that streams a "
                      "text and chooses what a question reads");
  }
  kept_ = candidates_;
  LCRUN_TRY(measure_all());
  found_.kept = found_.all;
  LCRUN_TRY(sort_layers());
  const size_t part = std::max<size_t>(1, (order_.size() + kGroups - 1) / kGroups);
  for (size_t at = 0; at < order_.size(); at += part) {
    LCRUN_TRY(remove_group(std::span(order_).subspan(at, std::min(part, order_.size() - at))));
  }
  LCRUN_TRY(remove_singly());
  LCRUN_TRY(share_plans());
  LCRUN_TRY(check());
  for (LayerFinding& one : found_.layers) {
    one.looks_back = std::find(kept_.begin(), kept_.end(), one.layer) != kept_.end();
    one.plan_from = plan_from_[static_cast<size_t>(one.layer)];
    if (one.plan_from != one.layer) found_.roles.plan_from.push_back({format("{}", one.layer), one.plan_from});
  }
  found_.roles.look_back = kept_.size() == candidates_.size() ? "all" : layers_text(kept_);
  return std::move(found_);
}

}  // namespace

std::string layers_text(std::span<const int64_t> layers) {
  std::string text;
  for (size_t i = 0; i < layers.size();) {
    size_t last = i;
    while (last + 1 < layers.size() && layers[last + 1] == layers[last] + 1) ++last;
    text += format("{}{}", text.empty() ? "" : ",", layers[i]);
    if (last > i) text += format("{}{}", last == i + 1 ? "," : "-", layers[last]);
    i = last + 1;
  }
  return text;
}

Result<Calibration> calibrate(Session& session, const text::Tokenizer& tokenizer, const CalibrationRequest& request,
                              const CalibrationProgress& progress) {
  return Search(session, tokenizer, request, progress).run();
}

}  // namespace lcrun::runtime
