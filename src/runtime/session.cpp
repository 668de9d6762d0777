#include "src/runtime/session.hpp"

#include <algorithm>
#include <numeric>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/session_file.hpp"

namespace lcrun::runtime {
namespace {

// Token ids kept room for ahead of use, so that decode() does not allocate (256 KiB).
constexpr int64_t kTokensAhead = 65536;
constexpr int64_t kTokensPastEnd = 4096;  // the same, past the end of the context
// Times that one step may lose pages and have them made again.
constexpr int kMostLosses = 8;
// Tokens at the end of a prompt that look back, if nobody says where its question begins.
constexpr int64_t kAskTokens = 256;
// Rows of logits computed at once by score(); a row can be a megabyte.
constexpr int64_t kScoreRows = 16;

// Is there a region that forgets what it held?
bool forgets(const storage::SequenceState& state) {
  for (int64_t i = 0; i < state.n_layers(); ++i) {
    for (const auto& region : state.layer(i).regions) {
      const storage::RegionKind kind = region.spec().kind;
      if (kind != storage::RegionKind::kAppend && kind != storage::RegionKind::kIndex) return true;
    }
  }
  return false;
}

}  // namespace

int64_t tokens_that_fit(const model::Model& model, const model::CacheOptions& cache, uint64_t bytes, int64_t limit) {
  int64_t fits = 0;
  for (int64_t low = 1, high = limit; low <= high;) {
    const int64_t middle = low + (high - low) / 2;
    if (model.state_bytes(cache, middle) <= bytes) {
      fits = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  return fits;
}

Result<Session> Session::open(std::shared_ptr<const model::Model> model, const SessionOptions& options) {
  Session session;
  session.model_ = std::move(model);
  session.options_ = options;
  SessionOptions& chosen = session.options_;
  const model::Model& net = *session.model_;
  if (chosen.n_ctx <= 0) chosen.n_ctx = net.config().n_ctx_train;
  LCRUN_ASSIGN(chosen.cache.attention, model::attention_for(net.config(), chosen.policy, chosen.n_ctx));
  if (chosen.policy.extend == "yarn") {
    LCRUN_ASSIGN(chosen.cache.yarn, model::yarn_factor(net.config(), chosen.n_ctx));
  }
  chosen.cache.slide = attention::slide_for(chosen.n_ctx, chosen.cache.attention.get());
  LCRUN_ASSIGN(session.state_, net.new_state(chosen.cache));
  LCRUN_TRY(session.limit_state(chosen.max_state_bytes, chosen.paging));
  model::StepOptions step;
  step.cache = chosen.cache;
  step.n_ctx = chosen.n_ctx;
  step.cancel = chosen.cancel;
  const bool by_tile = chosen.cache.attention != nullptr && chosen.cache.attention->reads_by_tile();
  step.max_rows = std::min(by_tile ? std::max(chosen.batch, storage::kBlockTokens) : chosen.batch, chosen.n_ctx);
  step.n_threads = chosen.n_threads_batch;
  LCRUN_ASSIGN(session.prompt_step_, net.plan(step));
  step.max_rows = 1;
  step.n_threads = chosen.n_threads;
  LCRUN_ASSIGN(session.decode_step_, net.plan(step));
  session.plan_leaders();
  const auto n_vocab = static_cast<size_t>(net.config().n_vocab);
  LCRUN_ASSIGN(session.logits_, AlignedBuffer::allocate(n_vocab * sizeof(float)));
  return session;
}

Status Session::limit_state(uint64_t max_state_bytes, const PagingOptions& wanted_paging) {
  PagingOptions paging = wanted_paging;
  paging.n_threads = options_.n_threads_batch;
  if (const attention::Attention* policy = attention()) {
    paging.blocks_at_once = std::max(paging.blocks_at_once, policy->blocks_at_once());
  }
  const model::CacheOptions& cache = options_.cache;
  int64_t fits = options_.n_ctx;
  if (max_state_bytes != 0) fits = tokens_that_fit(*model_, cache, max_state_bytes, options_.n_ctx);
  const std::vector<uint64_t> append = state_.append_bytes();
  if (fits < options_.n_ctx && paging.is_allowed() && !append.empty()) {
    // Windows and recurrent states stay in memory of their own.
    const auto blocks = static_cast<uint64_t>((options_.n_ctx + storage::kBlockTokens - 1) / storage::kBlockTokens);
    const uint64_t paged = blocks * std::accumulate(append.begin(), append.end(), uint64_t{0});
    const uint64_t others = model_->state_bytes(cache, options_.n_ctx) - paged;
    uint64_t left = max_state_bytes > others ? max_state_bytes - others : 0;
    const uint64_t marks = others > 0 ? std::min(kMarkBytes, left / 8) : 0;
    spare_bytes_ = std::max(marks, std::min(paging.spare_bytes, left / 4 * 3));
    left -= spare_bytes_;
    const PagingPlan plan = plan_paging(append, left, options_.n_ctx, std::min(options_.batch, options_.n_ctx), paging);
    LCRUN_TRY(page_sequence(state_, plan, paging));
    fits = options_.n_ctx;
    state_.keep_marks(marks);
  } else {
    const uint64_t left = max_state_bytes == 0 ? kMarkBytes : max_state_bytes - model_->state_bytes(cache, fits);
    state_.keep_marks(std::min(left, kMarkBytes));
  }
  options_.max_state_bytes = max_state_bytes;
  options_.paging = paging;
  max_tokens_ = attention() == nullptr ? fits : std::min(fits, attention::kMostTokens);
  return {};
}

uint64_t Session::buffer_bytes() const {
  return prompt_step_.memory_bytes() + decode_step_.memory_bytes() + logits_.size() + led_.bytes();
}

std::span<const float> Session::logits() const {
  if (!has_logits_) return {};
  return {reinterpret_cast<const float*>(logits_.data()), static_cast<size_t>(model_->config().n_vocab)};
}

attention::AttentionStats Session::attention_stats() const {
  attention::AttentionStats stats = prompt_step_.stats();
  return stats += decode_step_.stats();
}

void Session::watch(attention::AttnProbe* probe) {
  prompt_step_.watch(probe);
  decode_step_.watch(probe);
}

void Session::show_plans_to(const std::vector<attention::PlanObserver*>& observers) {
  prompt_step_.show_to(observers);
  decode_step_.show_to(observers);
}

void Session::force_blocks(const std::vector<int32_t>& blocks) {
  prompt_step_.force_blocks(blocks);
  decode_step_.force_blocks(blocks);
}

Status Session::assign_roles(const attention::Roles& roles) {
  LCRUN_CHECK(attention() != nullptr);
  auto changed = std::make_shared<attention::Attention>(*attention());
  const int64_t n_layers = model_->config().n_layers;
  if (changed->indexed.empty()) {
    for (int64_t i = 0; i < n_layers; ++i) {
      changed->indexed.push_back(attention()->keeps_index(i));
      changed->averaged.push_back(attention()->keeps_means(i));
    }
  }
  changed->roles = roles;
  for (int64_t i = 0; i < n_layers; ++i) {
    const bool sees_all = model_->config().layers[static_cast<size_t>(i)].window == 0;
    const bool chooses =
        changed->anchor_of(i) == i && changed->asks(i) && changed->ask.role == attention::Role::kSelect;
    const bool lacks_index = chooses && !changed->indexed[static_cast<size_t>(i)];
    const bool lacks_means =
        changed->asks(i) && changed->ask.has_remainder() && !changed->averaged[static_cast<size_t>(i)];
    if (!sees_all || !(lacks_index || lacks_means)) continue;
    return make_error(Code::kInvalidArgument, "layer {}: it is to choose blocks, and has no {}", i,
                      lacks_index ? "index" : "means of blocks");
  }
  options_.cache.attention = changed;
  model_->change_roles(prompt_step_, changed);
  model_->change_roles(decode_step_, changed);
  plan_leaders();
  return {};
}

// Room for what leaders choose, in the layers that choose for themselves.
void Session::plan_leaders() {
  led_ = {};
  const attention::Attention* policy = attention();
  if (policy == nullptr || policy->ask.cadence <= 1 || policy->ask.role != attention::Role::kSelect) return;
  std::vector<int64_t> scopes;
  for (const model::LayerConfig& layer : model_->config().layers) {
    const auto i = static_cast<int64_t>(scopes.size());
    const bool chooses =
        layer.mixer == "attention" && layer.window == 0 && policy->asks(i) && policy->anchor_of(i) == i;
    scopes.push_back(!chooses ? 0 : policy->ask.scope == attention::Scope::kHead ? layer.n_kv_heads : 1);
  }
  led_ = attention::LedChoices(policy->ask.cadence, scopes, policy->ask.blocks);
}

int64_t Session::alike(int64_t pos, int64_t n) const {
  n = std::min(n, prompt_step_.options().max_rows);
  // Past the end what is left changes from block to block.
  const bool is_past = pos >= options_.n_ctx;
  n = std::min(n, is_past ? storage::kBlockTokens - pos % storage::kBlockTokens : options_.n_ctx - pos);
  const attention::Attention* attention = options_.cache.attention.get();
  if (attention == nullptr) return n;
  if (pos < attention->dense_until) n = std::min(n, attention->dense_until - pos);
  n = asked_.alike(pos, n);
  if (!attention->reads_by_tile() || asked_.contains(pos)) return n;
  // Tokens of a block choose together: they are read together.
  const int64_t whole = (pos + n) / storage::kBlockTokens * storage::kBlockTokens;
  return whole > pos ? whole - pos : n;
}

// Text from `pos` on is about to be read: where a block of which a part was read as text alone must begin anew.
int64_t Session::begin_of_tile(int64_t pos) const {
  const attention::Attention* attention = options_.cache.attention.get();
  if (attention == nullptr || !attention->reads_by_tile() || asked_.contains(pos)) return pos;
  int64_t begin = pos;
  while (begin % storage::kBlockTokens != 0 && begin > attention->dense_until && !asked_.contains(begin - 1)) --begin;
  return begin;
}

int64_t Session::leader_of(int64_t pos) const {
  if (!led_.is_used() || pos < attention()->dense_until) return pos;
  const std::optional<int64_t> asked_from = asked_.begin_of(pos);
  if (!asked_from.has_value()) return pos;
  // Past the end of the context less is left to choose from.
  const int64_t border = pos >= options_.n_ctx ? options_.n_ctx : attention()->dense_until;
  return std::max({pos / attention()->ask.cadence * attention()->ask.cadence, *asked_from, border});
}

int64_t Session::begin_of_group(int64_t pos) const {
  const int64_t leader = leader_of(pos);
  return leader == led_.leader() ? pos : leader;
}

std::string Session::attention_text() const { return attention() == nullptr ? "dense" : attention()->describe(); }

void Session::ask(int64_t begin, int64_t end) {
  if (options_.cache.attention != nullptr) asked_.set(begin, end);
}

// Tokens of the prompt that a restored file tells of, and whose pages it has lost, are read as they were before:
// returns where they end.
int64_t Session::ask_as_before(std::span<const Token> prompt, int64_t begin) {
  const auto& told = restored_tokens_;
  const int64_t end = std::mismatch(prompt.begin(), prompt.end(), told.begin(), told.end()).first - prompt.begin();
  if (end <= begin) return begin;
  asked_.append(restored_asked_.spans(), begin, end);
  return end;
}

void Session::clear() {
  state_.clear();
  asked_.clear();
  tokens_.clear();
  restored_tokens_.clear();
  led_.forget();
  has_logits_ = false;
}

Status Session::pretend(std::span<const Token> tokens) {
  const auto n = static_cast<int64_t>(tokens.size());
  const auto have = static_cast<int64_t>(tokens_.size());
  if (have == 0 || have % storage::kBlockTokens != 0 || n % storage::kBlockTokens != 0 || n < have) {
    return make_error(Code::kInvalidArgument, "from {} to {} tokens: wanted whole blocks of {}", have, n,
                      storage::kBlockTokens);
  }
  LCRUN_TRY(check_room(n - have));
  has_logits_ = false;
  tokens_.assign(tokens.begin(), tokens.end());
  const Status grown = state_.repeat(n);
  if (!grown.has_value()) clear();
  return grown;
}

Status Session::continue_from(const storage::SequenceState& fork, std::span<const Token> tokens) {
  LCRUN_CHECK(fork.tokens() == static_cast<int64_t>(tokens.size()));
  LCRUN_ASSIGN(state_, fork.clone());
  tokens_.assign(tokens.begin(), tokens.end());
  led_.forget();
  go_back_to(fork.tokens());
  return {};
}

Status Session::continue_as(const storage::SequenceState& fork, std::span<const Token> tokens) {
  LCRUN_CHECK(fork.tokens() == static_cast<int64_t>(tokens_.size() + tokens.size()));
  has_logits_ = false;
  led_.forget();
  const Status taken = state_.go_on_as(fork);
  if (!taken.has_value()) {
    clear();
    return taken;
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return {};
}

// In each layer a token passes on what it is to those whose window it lies in.
int64_t Session::affected_until(int64_t begin, int64_t end) const {
  if (begin >= end) return end;
  const attention::Attention* policy = attention();
  // Dense queries reach everything before them.
  if (policy != nullptr && begin < policy->dense_until) end = std::max(end, policy->dense_until);
  for (const model::LayerConfig& layer : model_->config().layers) {
    if (layer.mixer != "attention") return INT64_MAX;
    if (layer.window > 0) {
      end += layer.window - 1;
      continue;
    }
    const bool streams = policy != nullptr && policy->read.role == attention::Role::kStream;
    if (!streams || begin < policy->read.sinks) return INT64_MAX;
    end += policy->read.window + storage::kBlockTokens - 1;  // a window begins with its block
  }
  return end;
}

Status Session::check_room(int64_t n) const {
  const int64_t wanted = static_cast<int64_t>(tokens_.size()) + n;
  if (wanted <= max_tokens_) return {};
  if (wanted > options_.n_ctx) {
    return make_error(Code::kInvalidArgument, "the context holds {} tokens, {} are wanted; give -c {} or more",
                      options_.n_ctx, wanted, wanted);
  }
  return make_error(
      Code::kNoMemory, "{} tokens take {} of cache, {} are left under the memory cap: {} tokens would fit", wanted,
      bytes_text(model_->state_bytes(options_.cache, wanted)), bytes_text(options_.max_state_bytes), max_tokens_);
}

// Past the end of the context: rows that a query at `pos`, and those after it, do without make room.
void Session::drop_behind(int64_t pos) {
  const attention::Slide& slide = options_.cache.slide;
  if (const int64_t end = slide.gone_until(pos); end > 0) state_.drop_tokens(slide.sinks, end);
}

// After a failed forward(): rows that were not committed do not count, but a recurrent state has moved on.
void Session::recover() {
  led_.forget();
  go_back_to(static_cast<int64_t>(tokens_.size()));
}

int64_t Session::go_back_to(int64_t n) {
  const int64_t point = state_.truncation_point(n);
  state_.truncate(point);
  tokens_.resize(static_cast<size_t>(point));
  asked_.cut(point);
  if (led_.leader() >= point) led_.forget();
  has_logits_ = false;
  return point;
}

template <class Attempt>
auto Session::despite_losses(const Attempt& attempt) -> decltype(attempt()) {
  auto result = attempt();
  for (int i = 0; !result.has_value() && state_.lost_row().has_value() && i < kMostLosses; ++i) {
    log(LogLevel::kWarn, "{}; its tokens are read again", result.error().message);
    const Status again = read_lost_again();
    // A page that is lost in the meantime is one more attempt.
    if (!again.has_value() && !state_.lost_row().has_value()) {
      recover();
      return Error(again.error());
    }
    if (again.has_value()) result = attempt();
  }
  return result;
}

Result<MatView> Session::forward(std::span<const Token> tokens, int64_t wanted) {
  has_logits_ = false;
  const auto pos = static_cast<int64_t>(tokens_.size());
  auto hidden = despite_losses([&]() -> Result<MatView> {
    if (const int64_t begin = begin_of_group(pos); begin < pos) LCRUN_TRY(read_again(begin));
    return step_over(tokens, wanted);
  });
  if (!hidden.has_value()) {
    recover();
    return hidden;
  }
  LCRUN_TRY(check_mappings());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  return hidden;
}

// What was computed since a file went away under its mapping is not to be used: all of it is forgotten.
Status Session::check_mappings() {
  Status found = model_->file().status();
  if (found.has_value() && state_.store() != nullptr) found = state_.store()->sources_status();
  if (!found.has_value()) clear();
  return found;
}

// Tokens that attend alike, at the end of the state; what they read is not their business.
Result<MatView> Session::step_over(std::span<const Token> tokens, int64_t wanted) {
  const int64_t pos = state_.tokens();
  model::Step& step = tokens.size() == 1 ? decode_step_ : prompt_step_;
  drop_behind(pos);
  if (!led_.is_used()) return model_->forward(tokens, state_, step, asked_.contains(pos), wanted);
  const int64_t last = pos + static_cast<int64_t>(tokens.size()) - 1;
  const int64_t leader = leader_of(last);
  step.follow(&led_);  // anew each time: sessions are moved
  led_.begin_step(leader_of(pos));
  if (leader >= pos) led_.forget();
  LCRUN_ASSIGN(const MatView hidden, model_->forward(tokens, state_, step, asked_.contains(pos), wanted));
  if (asked_.contains(last) && last >= attention()->dense_until) led_.settle(leader);
  return hidden;
}

// Makes again what pages held that the disk has lost: tokens are always kept, and give the same bits.
Status Session::read_lost_again() {
  const auto n = static_cast<int64_t>(tokens_.size());
  const int64_t lost = std::min(state_.lost_row().value_or(n), state_.tokens());
  const int64_t point = state_.truncation_point(lost);
  LCRUN_TRY(read_again(point));
  recomputed_tokens_ += n - point;
  return {};
}

// Tokens from `begin` on, and those before them that their reading depends on, once more.
Status Session::read_again(int64_t begin) {
  const auto n = static_cast<int64_t>(tokens_.size());
  int64_t point = state_.truncation_point(begin);
  if (led_.leader() >= point) led_.forget();
  while (begin_of_group(point) < point) {
    point = state_.truncation_point(begin_of_group(point));
    if (led_.leader() >= point) led_.forget();
  }
  state_.truncate(point);
  while (state_.tokens() < n) {
    const int64_t done = state_.tokens();
    const int64_t part = alike(done, n - done);
    const auto tokens = std::span(tokens_).subspan(static_cast<size_t>(done), static_cast<size_t>(part));
    LCRUN_TRY(step_over(tokens, 0));
  }
  return {};
}

Status Session::append(std::span<const Token> tokens, const ProgressCallback& progress, int64_t total) {
  const auto wanted = static_cast<int64_t>(tokens_.size() + tokens.size());
  const int64_t ahead = wanted <= max_tokens_ ? std::min(kTokensAhead, max_tokens_ - wanted) : kTokensPastEnd;
  if (static_cast<int64_t>(tokens_.capacity()) < wanted) tokens_.reserve(static_cast<size_t>(wanted + ahead));
  while (!tokens.empty()) {
    const int64_t count = alike(static_cast<int64_t>(tokens_.size()), static_cast<int64_t>(tokens.size()));
    const auto part = tokens.first(static_cast<size_t>(count));
    tokens = tokens.subspan(part.size());
    LCRUN_ASSIGN(const MatView last, forward(part, tokens.empty() ? 1 : 0));
    if (tokens.empty()) {
      const int64_t n_vocab = model_->config().n_vocab;
      model_->logits(last, {logits_.as<float>().data(), 1, n_vocab, n_vocab},
                     part.size() == 1 ? decode_step_ : prompt_step_);
      LCRUN_TRY(check_mappings());
      has_logits_ = true;
    }
    if (progress && !progress(static_cast<int64_t>(tokens_.size()), total)) {
      return make_error(Code::kCancelled, "reading the prompt was stopped");
    }
  }
  return {};
}

Result<std::span<const float>> Session::sync(std::span<const Token> prompt, const ProgressCallback& progress,
                                             int64_t ask_from) {
  if (prompt.empty()) return make_error(Code::kInvalidArgument, "the prompt is empty, wanted at least one token");
  const auto n = static_cast<int64_t>(prompt.size());
  const auto differs = std::mismatch(prompt.begin(), prompt.end(), tokens_.begin(), tokens_.end());
  const int64_t common = differs.first - prompt.begin();
  if (common == n && static_cast<int64_t>(tokens_.size()) == n && has_logits_) {
    reused_tokens_ = n;
    return logits();
  }
  // The last token is always read again: its logits are wanted.
  const int64_t same = std::min(common, n - 1);
  const int64_t border = ask_from == kAskTail ? n - kAskTokens : ask_from;
  const int64_t keep = go_back_to(same < border ? begin_of_tile(same) : same);
  reused_tokens_ = keep;
  LCRUN_TRY(check_room(n - keep));
  const int64_t news = ask_as_before(prompt, keep);
  ask(std::max(news, border), n);
  LCRUN_TRY(append(prompt.subspan(static_cast<size_t>(keep)), progress, n));
  restored_tokens_ = {};
  return logits();
}

Result<std::span<const float>> Session::decode(Token token, AtEnd at_end) {
  // Where the memory ends before the context does there is no room to slide in.
  const bool may_slide = at_end == AtEnd::kSlide && max_tokens_ >= options_.n_ctx;
  if (!may_slide) LCRUN_TRY(check_room(1));
  const auto pos = static_cast<int64_t>(tokens_.size());
  ask(pos, pos + 1);
  LCRUN_TRY(append({&token, 1}, {}, 0));
  return logits();
}

Status Session::score(std::span<const Token> tokens, int64_t n_scored, const LogitsSink& sink,
                      const ProgressCallback& progress) {
  const auto n = static_cast<int64_t>(tokens.size());
  LCRUN_TRY(check_room(n));
  const int64_t n_vocab = model_->config().n_vocab;
  LCRUN_ASSIGN(auto rows, AlignedBuffer::allocate(static_cast<size_t>(kScoreRows * n_vocab) * sizeof(float)));
  const auto start = static_cast<int64_t>(tokens_.size());
  const int64_t first_scored = start + n - std::min(n, n_scored);
  ask(first_scored, start + n);
  for (int64_t done = 0; done < n;) {
    const int64_t part = alike(start + done, n - done);
    const int64_t first = std::clamp<int64_t>(first_scored - start - done, 0, part);  // row whose logits are wanted
    const auto batch = tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(part));
    LCRUN_ASSIGN(const MatView hidden, forward(batch, part - first));
    model::Step& step = part == 1 ? decode_step_ : prompt_step_;
    for (int64_t row = 0; row < hidden.rows; row += kScoreRows) {
      const int64_t count = std::min(kScoreRows, hidden.rows - row);
      const MatView out{rows.as<float>().data(), count, n_vocab, n_vocab};
      model_->logits({hidden.row(row), count, hidden.cols, hidden.stride}, out, step);
      LCRUN_TRY(check_mappings());
      for (int64_t i = 0; i < count; ++i) {
        LCRUN_TRY(sink(start + done + first + row + i, {out.row(i), static_cast<size_t>(n_vocab)}));
      }
    }
    done += part;
    if (progress && !progress(done, n)) return make_error(Code::kCancelled, "scoring was stopped");
  }
  return {};
}

Result<storage::SaveReport> Session::save(FileSystem& fs, const std::string& path, const SaveOptions& options) {
  auto report = despite_losses([&] {
    return save_session_file(fs, path,
                             {.model = *model_,
                              .cache = options_.cache,
                              .n_ctx = options_.n_ctx,
                              .tokens = tokens_,
                              .logits = logits(),
                              .state = state_,
                              .note = options.note,
                              .asked = asked_.spans(),
                              .attention = attention_text(),
                              .sync = options.sync,
                              .seal = options.seal,
                              .n_threads = options_.n_threads_batch,
                              .last = path == file_path_ ? file_stamp_ : storage::SnapshotStamp(),
                              .parent = parent_.has_value() ? &*parent_ : nullptr});
  });
  if (!report.has_value()) {
    if (state_.tokens() < static_cast<int64_t>(tokens_.size())) recover();
    return report;
  }
  file_path_ = path;
  file_stamp_ = report->stamp;
  state_.mark_saved();
  return report;
}

Result<Session::Restored> Session::load(FileSystem& fs, const std::string& path, IfParentIsMissing missing) {
  LCRUN_ASSIGN(auto loaded, load_session_file(fs, path,
                                              {.model = *model_,
                                               .cache = options_.cache,
                                               .like = state_,
                                               .paging = options_.paging,
                                               .max_state_bytes = options_.max_state_bytes,
                                               .batch = std::min(options_.batch, options_.n_ctx),
                                               .n_ctx = options_.n_ctx,
                                               .max_tokens = max_tokens_,
                                               .n_threads = options_.n_threads_batch,
                                               .without_parent = missing == IfParentIsMissing::kReread}));
  Restored restored{loaded.tokens, std::move(loaded.note), std::move(loaded.damage), std::move(loaded.attention),
                    loaded.sealed};
  std::string remembered = path;
  state_ = std::move(loaded.state);
  tokens_ = std::move(loaded.tokens);
  tokens_.resize(static_cast<size_t>(state_.tokens()));
  led_.forget();
  restored_tokens_.clear();
  if (restored.tokens.size() > tokens_.size()) restored_tokens_ = restored.tokens;
  restored_asked_ = loaded.asked;
  asked_ = std::move(loaded.asked);
  asked_.cut(state_.tokens());
  has_logits_ = !loaded.logits.empty();
  std::copy(loaded.logits.begin(), loaded.logits.end(), logits_.as<float>().begin());
  file_path_ = std::move(remembered);
  file_stamp_ = loaded.stamp;
  parent_ = std::move(loaded.parent);
  return restored;
}

Result<Session::Mark> Session::mark() const {
  Mark mark;
  mark.tokens = tokens_;
  if (forgets(state_)) {
    LCRUN_ASSIGN(mark.state, state_.clone());
  }
  return mark;
}

Status Session::rewind(const Mark& mark) {
  const auto n = static_cast<int64_t>(mark.tokens.size());
  if (state_.can_truncate(n)) {
    state_.truncate(n);
  } else if (mark.state.has_value()) {
    LCRUN_ASSIGN(state_, mark.state->clone());
  } else {
    return make_error(Code::kInternal, "the session cannot go back to {} tokens", n);
  }
  tokens_ = mark.tokens;
  led_.forget();
  go_back_to(n);
  return {};
}

}  // namespace lcrun::runtime
