// The session file: what a snapshot (storage/snapshot.hpp) means to a session. Tokens, logits and a note, tied to
// one model, one cache format and one set of rotary frequencies.
//
// What must agree is in the identity section, and is compared before any page is read; tokens are always kept, so
// that pages which are damaged can be computed again. Grammar: docs/formats.md, "Session files".
// The checksums find damage and are no defence against forgery; the parsers behind them are bounds-checked.
// Thread rule: that of the session.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/runtime/asked_tokens.hpp"
#include "src/runtime/paging.hpp"
#include "storage/region.hpp"
#include "storage/snapshot.hpp"

namespace lcrun::runtime {

using Fingerprint = std::array<uint8_t, 16>;

// Identity of a model for sessions. Reads a few hundred bytes of each tensor.
Fingerprint model_fingerprint(const ggufish::ModelFile& file);

// What the state of a session depends on besides its tokens; and what helps a person to tell sessions apart.
struct SessionIdentity {
  uint32_t state_format = 0;  // of the bytes in blocks: kStateFormat
  Fingerprint model{};
  uint32_t type_k = 0;  // GGUF type ids
  uint32_t type_v = 0;
  Fingerprint rope{};  // XXH3-128 of the frequencies in use
  int64_t n_vocab = 0;
  int64_t n_ctx = 0;  // of the session; not compared
  std::string architecture;
  std::string model_path;  // where the model was; not compared
};

// n_ctx: of the session (it may choose the frequencies).
SessionIdentity identity_of(const model::Model& model, const model::CacheOptions& cache, int64_t n_ctx);
std::vector<std::byte> encode_identity(const SessionIdentity& identity);
Result<SessionIdentity> decode_identity(std::span<const std::byte> bytes, const std::string& name);

struct SessionView {
  const model::Model& model;
  model::CacheOptions cache;
  int64_t n_ctx = 0;
  std::span<const model::Token> tokens;
  std::span<const float> logits;
  storage::SequenceState& state;
  std::string_view note;
  std::span<const AskedTokens::Span> asked = {};
  std::string attention;  // in words
  storage::SyncMode sync = storage::SyncMode::kBarrier;
  bool seal = false;
  int n_threads = 1;
  storage::SnapshotStamp last;              // storage::SaveRequest::last
  const storage::Parent* parent = nullptr;  // whose pages the first state.inherited_tokens() tokens have
};

Result<storage::SaveReport> save_session_file(FileSystem& fs, const std::string& path, const SessionView& session);

struct LoadedSession {
  std::vector<model::Token> tokens;  // all of them
  storage::SequenceState state;      // of the first state.tokens() tokens
  std::vector<float> logits;         // after the last token; empty unless everything is whole
  std::string note;
  AskedTokens asked;      // of all tokens
  std::string attention;  // in words; empty: not told
  std::string damage;     // what was not whole; empty if everything was
  storage::SnapshotStamp stamp;
  bool sealed = false;
  std::optional<storage::Parent> parent;  // of what is saved next
};

struct LoadRequest {
  const model::Model& model;
  model::CacheOptions cache;
  const storage::SequenceState& like;  // the new state is an empty copy
  PagingOptions paging = {};           // of a session whose pages may stay in a sealed file
  uint64_t max_state_bytes = 0;        // cap on the cache's memory; 0 = none
  int64_t batch = 512;
  int64_t n_ctx = 0;       // most tokens, too
  int64_t max_tokens = 0;  // what the memory holds
  int n_threads = 1;
  bool without_parent = false;  // where the file that pages are shared with is missing, they are read again
};

// kBadSession: missing, damaged beyond use, another model, other cache types. kNoMemory: more tokens than fit. Others:
// the system refused to read it.
Result<LoadedSession> load_session_file(FileSystem& fs, const std::string& path, const LoadRequest& request);

// Is the parent of the snapshot the one that it was saved with: the same model and cache, and the tokens that the key
// of the shared ones is made of? Otherwise it is missing from here on.
void check_parent(storage::Snapshot& snapshot, const SessionIdentity& identity);

// What the opaque sections hold, without a model: for `session info`.
Result<std::vector<model::Token>> decode_tokens(const storage::Snapshot& snapshot, int64_t n_vocab);
struct SessionExtra {
  std::vector<float> logits;
  std::string note;
  // Ascending and apart; none in files from before it was kept, nor what is below.
  std::vector<AskedTokens::Span> asked;
  std::string attention;
};
Result<SessionExtra> decode_extra(const storage::Snapshot& snapshot, int64_t n_vocab);

}  // namespace lcrun::runtime
