#include "src/runtime/session_file.hpp"

#include <algorithm>
#include <cstring>

#include "quant/format.hpp"
#include "src/base/bytes.hpp"
#include "src/base/format.hpp"
#include "src/base/no_memory.hpp"
#include "src/model/rope.hpp"
#include "src/runtime/sealed_place.hpp"

namespace lcrun::runtime {
namespace {

// On disk: a new number whenever the bytes that a mixer keeps mean something else.
constexpr uint32_t kStateFormat = 1;
constexpr size_t kSampleBytes = 256;  // of each end of a tensor
constexpr uint64_t kMaxText = 65536;

void write_text(ByteWriter& out, std::string_view text) {
  const auto kept = text.substr(0, kMaxText);
  out.write<uint64_t>(kept.size());
  out.append(kept.data(), kept.size());
}

// A counted array; the count is checked against the bytes that are left before anything is allocated.
template <class T>
Result<std::vector<T>> read_array(ByteReader& in, std::string_view field) {
  LCRUN_ASSIGN(const auto count, in.read<uint64_t>(field));
  if (count > in.remaining() / sizeof(T)) {
    return in.fail(field, format("{} elements", count), format("at most {}", in.remaining() / sizeof(T)));
  }
  LCRUN_ASSIGN(const auto bytes, in.read_bytes(field, count * sizeof(T)));
  std::vector<T> values(static_cast<size_t>(count));
  if (count != 0) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Result<std::string> read_text(ByteReader& in, std::string_view field) {
  LCRUN_ASSIGN(const auto text, read_array<char>(in, field));
  return std::string(text.begin(), text.end());
}

std::string types_text(uint32_t type_k, uint32_t type_v) {
  return format("{} and {}", quant::type_name(static_cast<DType>(type_k)),
                quant::type_name(static_cast<DType>(type_v)));
}

// Differences that no page can be used under.
Status check_identity(const SessionIdentity& found, const SessionIdentity& wanted, const std::string& path) {
  const auto fail = [&](const char* field, const std::string& is, const std::string& should) -> Status {
    return make_error(Code::kBadSession, "{}: {}: found {}, wanted {}", path, field, is, should);
  };
  if (found.state_format != wanted.state_format) {
    return fail("format of the state", format("{}", found.state_format), format("{}", wanted.state_format));
  }
  if (found.model != wanted.model || found.n_vocab != wanted.n_vocab) {
    return fail("model fingerprint", format("{} of {}", storage::hex_text(found.model), found.model_path),
                format("{} of {}", storage::hex_text(wanted.model), wanted.model_path));
  }
  if (found.type_k != wanted.type_k || found.type_v != wanted.type_v) {
    return fail("cache types", types_text(found.type_k, found.type_v),
                types_text(wanted.type_k, wanted.type_v) + " (-ctk, -ctv)");
  }
  if (found.rope != wanted.rope) {
    return fail("rotary frequencies", format("those of a context of {}", found.n_ctx),
                format("those of a context of {} (-c)", wanted.n_ctx));
  }
  return {};
}

// "3 of 70 tokens can be used (layer 0, kv, block 0)".
std::string damage_text(const storage::Snapshot& snapshot, int64_t usable, size_t tokens) {
  std::string text = format("{} of {} tokens can be used; damaged: ", usable, tokens);
  for (size_t i = 0; i < snapshot.damage.size(); ++i) text += format("{}{}", i == 0 ? "" : "; ", snapshot.damage[i]);
  return text;
}

}  // namespace

Fingerprint model_fingerprint(const ggufish::ModelFile& file) {
  ByteWriter out;
  const auto add_text = [&](std::string_view text) {
    out.write<uint64_t>(text.size());
    out.append(text.data(), text.size());
  };
  for (const auto& entry : file.meta().entries()) {
    add_text(entry.key);
    out.write(static_cast<uint32_t>(entry.type));
    out.write(static_cast<uint32_t>(entry.element_type));
    out.write(entry.count);
    add_text(entry.text);
  }
  for (const auto& tensor : file.tensors()) {
    const TensorView& view = tensor.view;
    add_text(tensor.name);
    out.write(static_cast<uint32_t>(view.dtype));
    out.write(view.ne);
    out.write(view.size_bytes);
    const size_t sample = static_cast<size_t>(std::min<uint64_t>(kSampleBytes, view.size_bytes));
    out.append(view.data, sample);
    out.append(view.data + view.size_bytes - sample, sample);
  }
  return storage::digest_of(out.bytes());
}

SessionIdentity identity_of(const model::Model& model, const model::CacheOptions& cache, int64_t n_ctx) {
  SessionIdentity identity;
  identity.state_format = kStateFormat;
  identity.model = model_fingerprint(model.file());
  identity.type_k = static_cast<uint32_t>(cache.type_k);
  identity.type_v = static_cast<uint32_t>(cache.type_v);
  ByteWriter rope;
  for (const auto& frequencies : model::rope_frequencies(model.config(), n_ctx, cache.yarn)) {
    rope.append(frequencies.frequency.data(), frequencies.frequency.size() * sizeof(double));
    rope.write(frequencies.magnitude);
  }
  identity.rope = storage::digest_of(rope.bytes());
  identity.n_vocab = model.config().n_vocab;
  identity.n_ctx = n_ctx;
  identity.architecture = model.config().arch;
  identity.model_path = model.file().path();
  return identity;
}

std::vector<std::byte> encode_identity(const SessionIdentity& identity) {
  ByteWriter out;
  out.write(identity.state_format);
  out.write(identity.model);
  out.write(identity.type_k);
  out.write(identity.type_v);
  out.write(identity.rope);
  out.write(identity.n_vocab);
  out.write(identity.n_ctx);
  write_text(out, identity.architecture);
  write_text(out, identity.model_path);
  return out.take();
}

Result<SessionIdentity> decode_identity(std::span<const std::byte> bytes, const std::string& name) {
  ByteReader in(bytes, name + ": identity", Code::kBadSession);
  SessionIdentity identity;
  LCRUN_ASSIGN(identity.state_format, in.read<uint32_t>("state format"));
  LCRUN_ASSIGN(identity.model, in.read<Fingerprint>("model fingerprint"));
  LCRUN_ASSIGN(identity.type_k, in.read<uint32_t>("type of keys"));
  LCRUN_ASSIGN(identity.type_v, in.read<uint32_t>("type of values"));
  LCRUN_ASSIGN(identity.rope, in.read<Fingerprint>("rotary frequencies"));
  LCRUN_ASSIGN(identity.n_vocab, in.read<int64_t>("vocabulary"));
  LCRUN_ASSIGN(identity.n_ctx, in.read<int64_t>("context"));
  LCRUN_ASSIGN(identity.architecture, read_text(in, "architecture"));
  LCRUN_ASSIGN(identity.model_path, read_text(in, "path of the model"));
  return identity;
}

Result<std::vector<model::Token>> decode_tokens(const storage::Snapshot& snapshot, int64_t n_vocab) {
  ByteReader in(snapshot.tokens, snapshot.path + ": tokens", Code::kBadSession);
  const uint64_t count = snapshot.tokens.size() / sizeof(model::Token);
  if (count != snapshot.superblock.tokens || snapshot.tokens.size() % sizeof(model::Token) != 0) {
    return in.fail("tokens", format("{} bytes", snapshot.tokens.size()),
                   format("{} tokens", snapshot.superblock.tokens));
  }
  std::vector<model::Token> tokens(static_cast<size_t>(count));
  if (count != 0) std::memcpy(tokens.data(), snapshot.tokens.data(), snapshot.tokens.size());
  for (const model::Token token : tokens) {
    if (token < 0 || token >= n_vocab) return in.fail("tokens", format("{}", token), format("0 to {}", n_vocab - 1));
  }
  return tokens;
}

Result<SessionExtra> decode_extra(const storage::Snapshot& snapshot, int64_t n_vocab) {
  SessionExtra extra;
  if (snapshot.extra.empty()) return extra;  // damaged
  ByteReader in(snapshot.extra, snapshot.path + ": extra", Code::kBadSession);
  LCRUN_ASSIGN(extra.logits, read_array<float>(in, "logits"));
  if (!extra.logits.empty() && static_cast<int64_t>(extra.logits.size()) != n_vocab) {
    return in.fail("logits", format("{}", extra.logits.size()), format("0 or {}", n_vocab));
  }
  LCRUN_ASSIGN(extra.note, read_text(in, "note"));
  if (in.remaining() == 0) return extra;
  LCRUN_ASSIGN(extra.asked, read_array<AskedTokens::Span>(in, "asked"));
  const auto n_tokens = static_cast<int64_t>(snapshot.tokens.size() / sizeof(model::Token));
  int64_t last = -1;
  for (const AskedTokens::Span& span : extra.asked) {
    if (span.begin <= last || span.end <= span.begin || span.end > n_tokens) {
      return in.fail("asked", format("tokens {} to {}", span.begin, span.end),
                     format("spans that ascend, behind {} and up to {}", last, n_tokens));
    }
    last = span.end;
  }
  LCRUN_ASSIGN(extra.attention, read_text(in, "attention"));
  return extra;
}

// What pages depend on besides tokens.
static Sha256Digest origin_of(const SessionIdentity& identity) {
  ByteWriter out;
  out.write(identity.state_format);
  out.write(identity.model);
  out.write(identity.type_k);
  out.write(identity.type_v);
  out.write(identity.rope);
  out.write(identity.n_vocab);
  return sha256(out.bytes());
}

static Sha256Digest key_of(const SessionIdentity& identity, std::span<const std::byte> tokens, uint64_t n_tokens) {
  const auto wanted = std::min<uint64_t>(tokens.size(), n_tokens * sizeof(model::Token));
  return storage::prefix_chain(origin_of(identity), tokens.first(static_cast<size_t>(wanted)),
                               storage::kBlockTokens * sizeof(model::Token));
}

void check_parent(storage::Snapshot& snapshot, const SessionIdentity& identity) {
  if (!snapshot.parent.has_value() || snapshot.parent_file == nullptr) return;
  const storage::ParentRef& ref = *snapshot.parent;
  const auto found = decode_identity(snapshot.parent_identity, ref.path);
  const bool same = found.has_value() && key_of(*found, snapshot.parent_tokens, ref.tokens) == ref.chain &&
                    key_of(identity, snapshot.tokens, ref.tokens) == ref.chain;
  if (same) return;
  snapshot.parent_file.reset();
  snapshot.parent_missing =
      format("{}: found other tokens or another model, wanted the {} tokens that are shared", ref.path, ref.tokens);
}

static Result<storage::SaveReport> save_file(FileSystem& fs, const std::string& path, const SessionView& session) {
  const SessionIdentity facts = identity_of(session.model, session.cache, session.n_ctx);
  const auto identity = encode_identity(facts);
  LCRUN_TRY(session.model.file().status());
  std::optional<storage::Parent> parent;
  if (session.parent != nullptr) {
    parent = *session.parent;
    const auto inherited = static_cast<uint64_t>(session.state.inherited_tokens());
    parent->ref.tokens = std::min(parent->ref.tokens, inherited) / storage::kBlockTokens * storage::kBlockTokens;
    parent->ref.chain = key_of(facts, std::as_bytes(session.tokens), parent->ref.tokens);
  }
  ByteWriter extra;
  extra.write<uint64_t>(session.logits.size());
  extra.append(session.logits.data(), session.logits.size_bytes());
  extra.write<uint64_t>(session.note.size());
  extra.append(session.note.data(), session.note.size());
  extra.write<uint64_t>(session.asked.size());
  extra.append(session.asked.data(), session.asked.size_bytes());
  extra.write<uint64_t>(session.attention.size());
  extra.append(session.attention.data(), session.attention.size());
  return storage::save_snapshot(fs, path,
                                {.state = session.state,
                                 .identity = identity,
                                 .tokens = std::as_bytes(session.tokens),
                                 .extra = extra.bytes(),
                                 .sync = session.sync,
                                 .seal = session.seal,
                                 .n_threads = session.n_threads,
                                 .parent = parent.has_value() ? &*parent : nullptr,
                                 .without_state = session.state.has_dropped(),
                                 .last = session.last});
}

// An index can be made again from the keys: one of another kind than is wanted, or none, is no reason to refuse a file.
// Takes it out of the tables then.
static bool drop_other_index(storage::Snapshot& snapshot, const storage::SequenceState& like) {
  const auto wanted = like.index_specs();
  if (wanted.size() != snapshot.tables.size()) return false;
  const auto is_index = [](const storage::RegionTable& table) {
    return table.spec.kind == storage::RegionKind::kIndex;
  };
  bool same = true;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto& tables = snapshot.tables[i];
    std::vector<storage::RegionSpec> found;
    for (const auto& table : tables) {
      if (is_index(table)) found.push_back(table.spec);
    }
    same = same && std::equal(found.begin(), found.end(), wanted[i].begin(), wanted[i].end(),
                              [](const storage::RegionSpec& a, const storage::RegionSpec& b) {
                                return a.name == b.name && a.block_bytes == b.block_bytes;
                              });
  }
  for (auto& tables : snapshot.tables) {
    if (!same) std::erase_if(tables, is_index);
  }
  return !same;
}

static Result<LoadedSession> load_file(FileSystem& fs, const std::string& path, const LoadRequest& request) {
  LCRUN_ASSIGN(auto snapshot, storage::open_snapshot(fs, path));
  LCRUN_ASSIGN(const auto identity, decode_identity(snapshot.identity, path));
  const SessionIdentity wanted = identity_of(request.model, request.cache, request.n_ctx);
  LCRUN_TRY(request.model.file().status());
  LCRUN_TRY(check_identity(identity, wanted, path));
  check_parent(snapshot, identity);
  const bool has_lost_parent = snapshot.parent.has_value() && snapshot.parent_file == nullptr;
  if (has_lost_parent && request.without_parent) {
    snapshot.damage.push_back(format("the session that it shares {} tokens with is missing: {}",
                                     snapshot.parent->tokens, snapshot.parent_missing));
    snapshot.tables.clear();
    snapshot.parent.reset();
  }
  if (has_lost_parent && !request.without_parent) {
    return make_error(Code::kBadSession,
                      "{}: {} of its {} tokens are shared with another session, which is missing: {}; put it back, or "
                      "--reread computes them again",
                      path, snapshot.parent->tokens, snapshot.superblock.tokens, snapshot.parent_missing);
  }
  LoadedSession loaded;
  LCRUN_ASSIGN(loaded.tokens, decode_tokens(snapshot, identity.n_vocab));
  const auto n_tokens = static_cast<int64_t>(loaded.tokens.size());
  if (n_tokens > std::min(request.n_ctx, request.max_tokens)) {
    return make_error(Code::kNoMemory, "{}: holds {} tokens, this session has room for {}; raise -c or the memory cap",
                      path, n_tokens, std::min(request.n_ctx, request.max_tokens));
  }
  LCRUN_ASSIGN(auto extra, decode_extra(snapshot, identity.n_vocab));
  const bool needs_index = drop_other_index(snapshot, request.like);
  auto place = place_sealed(snapshot, request);
  if (!place.has_value()) {
    LCRUN_ASSIGN(auto copy, request.like.empty_copy());
    place = SealedPlace{std::move(copy), {}};  // nothing stays in a file
  }
  loaded.state = std::move(place->state);
  if (needs_index) loaded.state.replace_index(storage::SequenceState::IndexSpecs(snapshot.tables.size()));
  LCRUN_ASSIGN(const int64_t usable,
               storage::restore_snapshot(snapshot, loaded.state, request.n_threads, place->sources));
  if (needs_index) LCRUN_TRY(request.model.rebuild_index(loaded.state, request.cache, request.n_ctx));
  if (usable == n_tokens) loaded.logits = std::move(extra.logits);
  loaded.note = std::move(extra.note);
  loaded.asked.append(extra.asked, 0, n_tokens);
  loaded.attention = std::move(extra.attention);
  if (!snapshot.has_state) {
    loaded.damage = format(
        "0 of {} tokens can be used: the text had outgrown its context, and its tokens alone were kept", n_tokens);
  }
  if (!snapshot.damage.empty()) loaded.damage = damage_text(snapshot, usable, loaded.tokens.size());
  loaded.stamp = snapshot.stamp();
  loaded.parent = storage::parent_of(snapshot);
  if (loaded.parent.has_value()) {
    const auto shared = static_cast<int64_t>(loaded.parent->ref.tokens);
    loaded.state.set_inherited(std::min(shared, loaded.state.tokens()));
  }
  loaded.sealed = snapshot.superblock.sealed;
  return loaded;
}

Result<storage::SaveReport> save_session_file(FileSystem& fs, const std::string& path, const SessionView& session) {
  return or_no_memory([&] { return save_file(fs, path, session); });
}

Result<LoadedSession> load_session_file(FileSystem& fs, const std::string& path, const LoadRequest& request) {
  return or_no_memory([&] {
    storage::remove_leftovers(fs, path);
    return load_file(fs, path, request);
  });
}

}  // namespace lcrun::runtime
