// How a sequence attends: which rows of the cache its queries read, as data.
//
// Tokens are read (text that is taken in) or asked (a question and its answer: only they look back). A policy says for
// both what layers that see everything do; layers with a window of their own keep to it.
//   dense   every key
//   stream  the first tokens and a window of the latest (StreamingLLM, Xiao et al., arXiv 2309.17453, section 3.2)
//   select  the same, and the blocks that an index scores best, or the keys themselves
// Where the keys that are read count as standing is a map of its own (position_map.hpp). What a query reads depends
// on its position and on the cache alone, never on how a prompt was split.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/attention/block_index.hpp"
#include "src/attention/position_map.hpp"
#include "src/base/result.hpp"

namespace lcrun::attention {

enum class Role : uint8_t { kDense, kStream, kSelect };
const char* name_of(Role role);  // "dense", ...
// How blocks are chosen from their scores.
//   query  each query for itself
//   tile   the queries of a block of 64 together, by their mean (FlexPrefill's query-aware blocks, section 3.2): a 64th
//          of the work. For text alone; a block is always planned as a whole (Session::alike)
//   exact  each query for itself, by the best key of each block; the index gives bounds that say which blocks need not
//          be looked at (best first)
//   strips  each query for itself, from four times as many blocks as it reads: by their keys, in the quarter of the
//           channels where its group's queries are largest (strips.hpp)
// For text alone, too, the queries of a block together, but by all far keys and without an index (tile_choice.hpp):
//   antidiagonal  groups of 8 queries and of 8 keys, by the antidiagonals of their squares (XAttention, Xu et al.,
//                 arXiv 2503.16428, section 2)
//   sampled       what every eighth query attends to (MInference's vertical-slash, Jiang et al., arXiv 2407.02490,
//                 section 3, by blocks: within a tile its columns and its diagonals both come to whole blocks)
//   divergence    by the mean of the queries and the means of the keys where that is like what is sampled, else as
//                 sampled (FlexPrefill, Lai et al., arXiv 2502.20766, section 3.1)
enum class Choice : uint8_t { kQuery, kTile, kExact, kStrips, kAntidiagonal, kSampled, kDivergence };
const char* name_of(Choice choice);  // "query", ...
// What far blocks that a query does not read add to its attention (remainder.hpp).
enum class Remainder : uint8_t { kNone, kBlocks, kMean };
const char* name_of(Remainder remainder);      // "none", ...
enum class Scope : uint8_t { kHead, kLayer };  // who shares a choice of blocks: queries of a KV head, or of a layer
const char* name_of(Scope scope);              // "head", "layer"

// What queries do in layers that see everything. Numbers of tokens are multiples of 64.
struct Reading {
  Role role = Role::kDense;
  int64_t sinks = 0;
  int64_t window = 0;                           // at least: the block that it begins in is read whole
  PositionMap positions = {Positions::kRelay};  // dense: relay is where they are
  // kSelect
  std::string_view index;  // a name of index_kinds(); none where needs_index() is false
  int64_t blocks = 0;
  Scope scope = Scope::kLayer;
  int64_t gone_until = 0;  // rows from the sinks to here were dropped (Slide); a multiple of 64
  // Of each head's attention to the far blocks that the chosen ones must hold, as far as `blocks` allows (FlexPrefill's
  // cumulative coverage, Lai et al., arXiv 2502.20766, section 3.3); 0: as many blocks as there may be.
  double mass = 0;
  Choice choice = Choice::kQuery;
  // Questions and answers: the first asked query of each so many positions chooses for all of them (led_choices.hpp). A
  // divisor of 64.
  int64_t cadence = 1;
  Remainder remainder = Remainder::kNone;
  // An index that leaves so many of the far blocks for `index` to look at (shortlist.hpp); "": it looks at all.
  std::string_view coarse = {};
  int64_t shortlist = 0;

  bool has_levels() const { return needs_index() && !coarse.empty(); }
  // Blocks that are looked at closely, where not all are.
  int64_t most_listed() const {
    const int64_t least = choice == Choice::kStrips ? 4 * blocks : blocks;
    return shortlist > least ? shortlist : least;
  }
  bool has_remainder() const { return role == Role::kSelect && remainder != Remainder::kNone; }
  // Do the queries of a block choose together?
  bool is_by_tile() const { return choice == Choice::kTile || is_by_keys(); }
  // By all far keys?
  bool is_by_keys() const { return choice >= Choice::kAntidiagonal; }
  bool needs_index() const { return role == Role::kSelect && !is_by_keys(); }
  // First row of the window of a query at `pos`, a multiple of 64; 0 where sinks and window meet.
  int64_t window_begin(int64_t pos) const;
};

// What is left when a text outgrows its context: the first tokens and the latest, a whole context of them; rows between
// are dropped, a block at a time. The first tokens count as standing right before those that are left, so that no
// distance occurs that is larger than the context (StreamingLLM, arXiv 2309.17453, section 3.2).
struct Slide {
  int64_t n_ctx = INT64_MAX;  // positions before it see everything
  int64_t sinks = 0;
  int64_t window = 0;

  // First row after those that a query at `pos`, or a later one, does without; 0: it does without none.
  int64_t gone_until(int64_t pos) const;
  // How queries past the end read that read like this before it (but for dense ones).
  Reading past_end(Reading reading, int64_t pos) const;
};
struct Attention;
// `attention` may be null.
Slide slide_for(int64_t n_ctx, const Attention* attention);

// Layers that take over the blocks which another layer's queries have chosen (the robust form of Shared Attention, Liao
// and Vargas, arXiv 2407.12866).
struct PlanSharing {
  std::string layers;  // a list
  int64_t anchor = 0;  // a layer before all of them that chooses for itself
};

// What layers do, where not all do the same. Lists are numbers from 0 and ranges, "5,11,17-20".
struct LayerRoles {
  std::string look_back = "all";
  std::vector<PlanSharing> plan_from;
};

// A row of the table.
struct Policy {
  std::string name;
  std::string source;  // paper and section
  Reading read;
  Reading ask;
  std::string about;
  LayerRoles layers = {};
};
std::span<const Policy> policies();

// Rows that somebody else has written (src/runtime/policy_file.hpp).
struct PolicyRows {
  std::string path;  // for messages
  std::vector<Policy> rows;
  std::string auto_name;  // the row that `auto` takes past the trained context; "": the table's
  std::string model;      // fingerprint of the model they were made for, in hex; "": any
  std::string digest;     // of the file, in hex
};
// Names of the table, of `more` (may be null), and "auto".
std::vector<std::string> policy_names(const PolicyRows* more = nullptr);
bool is_policy_name(std::string_view name);  // of the table, or "auto"

// What a user asked for.
struct PolicyChoice {
  std::string attention = "auto";
  std::string prefill = "auto";
  int64_t budget = 0;  // tokens of chosen blocks; 0: the policy's own
  std::string index = "auto";
  std::string layers = "auto";  // that look back: a list, "all", or as the policy has it
  // Past the trained context. none: true positions; relay: only what is chosen is read; dca: everything, by dual chunk
  // attention; yarn: everything, rotated more slowly (rope.hpp); auto: as the policy has it.
  std::string extend = "auto";
  int64_t cadence = 0;  // Reading::cadence of what is asked; 0: the policy's own
  std::shared_ptr<const PolicyRows> rows = nullptr;
};
// A list of layers, ascending; empty for "all". kInvalidArgument: anything else, or a layer that is not there; `what`
// for the message.
Result<std::vector<int64_t>> parse_layers(const std::string& what, const std::string& text, int64_t n_layers);
// Scores of all blocks are kept while blocks are chosen: room is made for so many tokens.
constexpr int64_t kMostTokens = int64_t{1} << 26;

// What matters of a model.
struct ModelShape {
  int64_t n_ctx = 0;
  int64_t n_ctx_train = 0;
  int64_t head_dim = 0;  // largest of layers that see everything; 0: there are none
  int64_t n_layers = 0;
  std::vector<int64_t> kv_heads = {};  // by layer, 0 for those that do not see everything; empty: all alike
};

// The layers' roles, one by one.
struct Roles {
  std::vector<bool> looks_back;    // [n_layers]; empty: all do
  std::vector<int64_t> plan_from;  // [n_layers], themselves where they choose; empty: all do
};

// A choice completed for a model and a context: what layers run by. Immutable; shared by all that belongs to a session.
struct Attention {
  std::string name;
  std::string prefill;
  int64_t n_ctx = 0;        // most tokens
  int64_t dense_until = 0;  // queries at positions before it are dense
  Reading read;
  Reading ask;
  Reading near;  // sinks and window of `ask`: for layers that do not look back
  Roles roles;
  // Layers that keep an index, where that was settled before roles changed (Session::assign_roles); empty: those that
  // their roles say.
  std::vector<bool> indexed = {};
  std::vector<bool> averaged = {};  // the same of the means of blocks
  int64_t n_ctx_train = 0;

  bool asks(int64_t layer) const { return roles.looks_back.empty() || roles.looks_back[static_cast<size_t>(layer)]; }
  // Do the queries of a block of text choose together?
  bool reads_by_tile() const { return read.role == Role::kSelect && read.is_by_tile(); }
  // Whose choice of blocks a layer takes.
  int64_t anchor_of(int64_t layer) const {
    return roles.plan_from.empty() ? layer : roles.plan_from[static_cast<size_t>(layer)];
  }
  // Do others take this layer's?
  bool is_anchor(int64_t layer) const;
  const Reading& reading(int64_t pos, bool is_asked, int64_t layer) const;
  // The index that layers which see everything keep; null if none.
  const IndexKind* index() const;
  // The coarse one before it, kept by the same layers; null if none.
  const IndexKind* coarse_index() const;
  // Does this one, if it sees everything?
  bool keeps_index(int64_t layer) const;
  // Does it keep the means of its blocks, for remainders? Layers that take over a choice do, too.
  bool keeps_means(int64_t layer) const;
  // Most blocks that one query reads.
  int64_t blocks_at_once() const;
  // In a sentence, for people.
  std::string describe() const;
};
// kInvalidArgument: an unknown name (the message lists them).
Status check_policy(const PolicyChoice& choice);
// Null when everything will be dense. kInvalidArgument: an unknown name (the message lists them), layers that are not
// there or cannot take over a choice.
Result<std::shared_ptr<const Attention>> resolve_policy(const PolicyChoice& choice, const ModelShape& shape);
// Roles as a file or a person wrote them, layer by layer. `what` for messages.
Result<Roles> resolve_roles(const LayerRoles& layers, const Reading& ask, const ModelShape& shape,
                            const std::string& what);

// Counters, for those who want to know. Blocks are counted for each KV head and layer.
struct AttentionStats {
  int64_t queries = 0;  // a query of one layer is one
  int64_t blocks = 0;
  int64_t kv_bytes = 0;       // of those blocks
  int64_t scanned_bytes = 0;  // of indexes
  double selector_seconds = 0;

  AttentionStats& operator+=(const AttentionStats& other);
  AttentionStats operator-(const AttentionStats& other) const;
};

}  // namespace lcrun::attention
