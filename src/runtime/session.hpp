// Session: one timeline of tokens over a model, and all that it needs to go on.
//
// Callers never manage the cache: sync() takes the whole prompt, keeps what is already there, and reads the rest.
// Laws: any split of a prompt gives the same bits; restored = continued; a failed call leaves a session that can be
// used (at worst empty), a failed load leaves it untouched.
// Memory: the cache grows with use; open() reserves only the buffers of a step. decode() after the first allocates
// nothing but a new cache block each 64 tokens.
// Thread rule: one driving thread; cancel() may come from any thread or a signal handler.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/runtime/asked_tokens.hpp"
#include "src/runtime/paging.hpp"
#include "storage/region.hpp"
#include "storage/snapshot.hpp"

namespace lcrun::runtime {

using model::Token;

struct SessionOptions {
  model::CacheOptions cache;                  // its attention is made from `policy`
  attention::PolicyChoice policy;             // what queries read
  int64_t n_ctx = 0;                          // most tokens; 0 = what the model was trained on
  int64_t batch = 512;                        // most tokens computed at once
  int n_threads = 1;                          // of decode()
  int n_threads_batch = 1;                    // of prompts
  uint64_t max_state_bytes = 0;               // cap on the cache's memory; 0 = none
  PagingOptions paging;                       // where the cache goes that this cap has no room for
  const std::atomic<bool>* cancel = nullptr;  // ends work with kCancelled; may be null; must outlive the session
};

// Called between batches with tokens done and tokens in all; false cancels.
using ProgressCallback = std::function<bool(int64_t done, int64_t total)>;

// Takes the logits that follow position `pos`; valid during the call.
using LogitsSink = std::function<Status(int64_t pos, std::span<const float> logits)>;

class Session {
 public:
  // kNoMemory when the buffers of a step do not fit; kUnsupported, kInvalidArgument for cache types.
  static Result<Session> open(std::shared_ptr<const model::Model> model, const SessionOptions& options);

  const model::Model& model() const { return *model_; }
  const SessionOptions& options() const { return options_; }
  std::span<const Token> tokens() const { return tokens_; }
  // Most tokens this session can hold: the context, or what the memory cap leaves.
  int64_t max_tokens() const { return max_tokens_; }
  // Changes the cap on the cache's memory (0 = none). A cache of the whole context that does not fit is paged, if that
  // is allowed; the session must be empty then. Errors of page_sequence(), which leave the session as it was.
  Status limit_state(uint64_t max_state_bytes, const PagingOptions& paging = {});
  // The cache's page store; null while it is all in memory of its own.
  storage::PageStore* page_store() const { return state_.store(); }
  // Tokens that were read again because their cache could not be read back.
  int64_t recomputed_tokens() const { return recomputed_tokens_; }

  // Makes the session's tokens equal to `prompt` (not empty) and returns the logits after the last one, valid until
  // the next call. Where attention is not dense, tokens from `ask_from` on are asked (attention/policy.hpp): a question
  // that looks back at what was read before it; kAskTail: some of the last ones.
  // kInvalidArgument: empty, too long for the context, an id outside the vocabulary. kNoMemory: the cap. kCancelled:
  // what was read so far is kept, where the model's state allows it.
  static constexpr int64_t kAskTail = -1;
  Result<std::span<const float>> sync(std::span<const Token> prompt, const ProgressCallback& progress = {},
                                      int64_t ask_from = kAskTail);
  // Tokens that the last sync() found already read.
  int64_t reused_tokens() const { return reused_tokens_; }
  // Appends one token; logits as above. Past the end of the context, if that is asked for, the first tokens and the
  // latest are read and the rest is dropped (attention::Slide): the memory stays what it is, and the timeline can be
  // taken back to its beginning only. kInvalidArgument otherwise.
  enum class AtEnd : uint8_t { kRefuse, kSlide };
  Result<std::span<const float>> decode(Token token, AtEnd at_end = AtEnd::kRefuse);
  // Tokens were dropped: what is saved are the tokens alone.
  bool is_past_end() const { return state_.has_dropped(); }
  // The logits of sync() or decode() again; empty before them.
  std::span<const float> logits() const;
  // Appends tokens and hands out the logits after each of the last `n_scored` of them, in order; those are asked.
  Status score(std::span<const Token> tokens, int64_t n_scored, const LogitsSink& sink,
               const ProgressCallback& progress = {});
  void clear();
  // Grows to `tokens` as if they had been read, with copies of the blocks there are (storage/region.hpp): a cache of
  // the right size for measurements, whose logits mean nothing. Both lengths are whole blocks of 64.
  Status pretend(std::span<const Token> tokens);

  // Bytes of cache held now, and of the buffers of a step.
  uint64_t state_bytes() const { return state_.memory_bytes(); }
  uint64_t buffer_bytes() const;
  uint64_t mark_bytes() const { return state_.mark_bytes(); }
  // With a page store: memory under the cap that neither its frames nor anything else of the whole context takes.
  uint64_t spare_bytes() const { return spare_bytes_; }
  // From now on an edited prompt is read from its beginning where a layer has a window, and no memory is kept for that.
  void forget_marks() { state_.keep_marks(0); }
  // What queries that were not dense have read so far; the policy they follow (null: dense).
  attention::AttentionStats attention_stats() const;
  const attention::Attention* attention() const { return options_.cache.attention.get(); }
  std::string attention_text() const;  // the same in words
  // Counts from now on what heads attend to (null: no more). The probe must outlive that. After steps that left layers
  // out, clear() comes before anything else is made of the session.
  void watch(attention::AttnProbe* probe);
  // Shows the plans of all steps from now on to these, which must outlive that; none: to nobody.
  void show_plans_to(const std::vector<attention::PlanObserver*>& observers);
  // From now on layers that choose what they read choose these blocks of 64 tokens too, whatever their index says, as
  // far as their budget goes: an oracle for evaluations. None: as ever.
  void force_blocks(const std::vector<int32_t>& blocks);
  // Other roles for the layers from now on. Indexes stay those that there are: a layer that has none cannot choose
  // (kInvalidArgument). Requires that attention is not dense.
  Status assign_roles(const attention::Roles& roles);

  // A session file (docs/formats.md). The first save to a file writes it whole and renames it; those after it add what
  // is new. kBadSession: the file is sealed. After any error the file is what it was, and the session goes on.
  struct SaveOptions {
    std::string_view note = {};  // kept with it, unread
    storage::SyncMode sync = storage::SyncMode::kBarrier;
    bool seal = false;  // the file never changes again
  };
  Result<storage::SaveReport> save(FileSystem& fs, const std::string& path, const SaveOptions& options);
  Result<storage::SaveReport> save(FileSystem& fs, const std::string& path) { return save(fs, path, SaveOptions()); }
  // Replaces tokens and state. kBadSession: missing, damaged beyond use, of another model or of other cache types;
  // then nothing has changed. A file with damaged pages gives as many tokens as it can: sync(tokens) computes the rest.
  struct Restored {
    std::vector<Token> tokens;  // all that the file tells of; the session holds the first ones
    std::string note;
    std::string damage;     // in words, with the tokens that can be used; empty if there was none
    std::string attention;  // attention_text() of the session that was saved; empty: not told
    bool sealed = false;
  };
  // A session that shares pages with a sealed one (docs/formats.md) needs that one: kBadSession where it is missing.
  // kReread takes the tokens alone then.
  enum class IfParentIsMissing : uint8_t { kRefuse, kReread };
  Result<Restored> load(FileSystem& fs, const std::string& path,
                        IfParentIsMissing missing = IfParentIsMissing::kRefuse);
  // What is saved to another file shares pages with this one; empty: with none.
  std::string parent_path() const { return parent_.has_value() ? parent_->ref.path : std::string(); }

  // The state of the timeline so far; it shares the session's blocks. For texts that differ in their middle only:
  // continue_from() an early fork, read what was changed and what depends on that, continue_as() a late one.
  Result<storage::SequenceState> fork() const { return state_.clone(); }
  // Becomes `fork`, which was made after `tokens`, whatever has been read since.
  Status continue_from(const storage::SequenceState& fork, std::span<const Token> tokens);
  // Takes on what `fork` has read beyond tokens(), a multiple of joint_tokens(); `tokens` are those further ones. None
  // of their state may depend on where the timelines differ (affected_until()). On error the session is empty.
  Status continue_as(const storage::SequenceState& fork, std::span<const Token> tokens);
  int64_t joint_tokens() const { return state_.joint_tokens(); }
  // First token whose state is the same whatever tokens `begin` .. `end` - 1 are; INT64_MAX: there is none.
  int64_t affected_until(int64_t begin, int64_t end) const;

  // A point of the timeline to go back to (bench). Copies the state only where rows of it are overwritten.
  struct Mark {
    std::optional<storage::SequenceState> state;
    std::vector<Token> tokens;
  };
  Result<Mark> mark() const;
  // Requires that the timeline still begins with the marked tokens.
  Status rewind(const Mark& mark);

 private:
  Session() = default;
  Status append(std::span<const Token> tokens, const ProgressCallback& progress, int64_t total);
  Result<MatView> forward(std::span<const Token> tokens, int64_t wanted);
  // Tokens from `pos` on, at most n and a batch, that attend alike; and whether they are asked.
  int64_t alike(int64_t pos, int64_t n) const;
  int64_t begin_of_tile(int64_t pos) const;
  // Whose choice of blocks the query at `pos` reads by: its own position where it chooses for itself.
  int64_t leader_of(int64_t pos) const;
  // `pos`, or its leader's where that one's choice is not known (any more).
  int64_t begin_of_group(int64_t pos) const;
  void plan_leaders();
  Result<MatView> step_over(std::span<const Token> tokens, int64_t wanted);
  Status read_again(int64_t begin);
  void ask(int64_t begin, int64_t end);
  int64_t ask_as_before(std::span<const Token> prompt, int64_t begin);
  Status read_lost_again();
  // attempt() again for as long as it fails for a lost page, whose tokens are read again in between.
  template <class Attempt>
  auto despite_losses(const Attempt& attempt) -> decltype(attempt());
  Status check_room(int64_t n) const;
  void recover();
  void drop_behind(int64_t pos);
  Status check_mappings();
  // Forgets tokens from n on, and those before them that the state needs to read again; returns how many are left.
  int64_t go_back_to(int64_t n);

  std::shared_ptr<const model::Model> model_;
  SessionOptions options_;
  storage::SequenceState state_;
  model::Step prompt_step_;
  model::Step decode_step_;
  AlignedBuffer logits_;  // [n_vocab]
  std::vector<Token> tokens_;
  AskedTokens asked_;  // of tokens_ and those that are being appended
  attention::LedChoices led_;
  // All that a file with damaged pages told of; empty if none were.
  std::vector<Token> restored_tokens_;
  AskedTokens restored_asked_;
  int64_t max_tokens_ = 0;
  uint64_t spare_bytes_ = 0;
  int64_t reused_tokens_ = 0;
  int64_t recomputed_tokens_ = 0;
  bool has_logits_ = false;
  std::string file_path_;  // where state_.saved_tokens() lie, as commit file_stamp_
  storage::SnapshotStamp file_stamp_;
  std::optional<storage::Parent> parent_;  // whose pages the first state_.inherited_tokens() tokens have
};

// Tokens whose cache fits in `bytes` (at most `limit`).
int64_t tokens_that_fit(const model::Model& model, const model::CacheOptions& cache, uint64_t bytes, int64_t limit);

}  // namespace lcrun::runtime
