// lcrun session: what a session file holds, whether all of it is whole, and away with it. No model is needed.
#include <iomanip>
#include <sstream>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/session_file.hpp"

namespace lcrun::cli {
namespace {

using storage::Snapshot;

// Everything but the pages, checked.
struct Contents {
  Snapshot snapshot;
  runtime::SessionIdentity identity;
  runtime::SessionExtra extra;
  uint64_t file_bytes = 0;
};

Error damaged(const Snapshot& snapshot, const std::string& what) {
  std::string text;
  for (const std::string& item : snapshot.damage) text += format("{}{}", text.empty() ? "" : "; ", item);
  return make_error(Code::kBadSession,
                    "{}: found damage in {}{}, wanted all whole; `run --session` reads again what is lost",
                    snapshot.path, what, text);
}

Result<Contents> read_contents(const std::string& path) {
  Contents contents;
  LCRUN_ASSIGN(contents.snapshot, storage::open_snapshot(posix_file_system(), path));
  LCRUN_ASSIGN(contents.identity, runtime::decode_identity(contents.snapshot.identity, path));
  LCRUN_TRY(runtime::decode_tokens(contents.snapshot, contents.identity.n_vocab));
  LCRUN_ASSIGN(contents.extra, runtime::decode_extra(contents.snapshot, contents.identity.n_vocab));
  runtime::check_parent(contents.snapshot, contents.identity);
  if (!contents.snapshot.damage.empty()) return damaged(contents.snapshot, "");
  LCRUN_ASSIGN(contents.file_bytes, contents.snapshot.file->size());
  return contents;
}

Json json_of(const Contents& contents) {
  const auto& [snapshot, identity, extra, file_bytes] = contents;
  Json json;
  json["path"] = snapshot.path;
  json["format"] = storage::kSnapshotFormat;
  json["id"] = storage::hex_text(snapshot.superblock.id);
  json["commit"] = snapshot.superblock.sequence;
  json["sealed"] = snapshot.superblock.sealed;
  json["tokens"] = snapshot.superblock.tokens;
  json["n_ctx"] = identity.n_ctx;
  json["architecture"] = identity.architecture;
  json["model"] = identity.model_path;
  json["fingerprint"] = storage::hex_text(identity.model);
  json["type_k"] = quant::type_name(static_cast<DType>(identity.type_k));
  json["type_v"] = quant::type_name(static_cast<DType>(identity.type_v));
  json["layers"] = snapshot.tables.size();
  json["pages"] = snapshot.pages();
  json["live_bytes"] = snapshot.live_bytes();
  json["file_bytes"] = file_bytes;
  json["note_bytes"] = extra.note.size();
  json["attention"] = extra.attention.empty() ? Json(nullptr) : Json(extra.attention);
  json["has_logits"] = !extra.logits.empty();
  json["parent"] = snapshot.parent.has_value() ? Json(snapshot.parent->path) : Json(nullptr);
  if (!snapshot.parent.has_value()) return json;
  json["parent_id"] = storage::hex_text(snapshot.parent->id);
  json["parent_there"] = snapshot.parent_file != nullptr;
  json["shared_tokens"] = snapshot.parent->tokens;
  json["shared_bytes"] = snapshot.shared_bytes();
  json["prefix_key"] = storage::hex_text(snapshot.parent->chain);
  return json;
}

std::string table_of(const Json& json) {
  std::ostringstream out;
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string()    ? value.get<std::string>()
                             : value.is_boolean() ? (value.get<bool>() ? "yes" : "no")
                                                  : json_text(value);
    out << std::left << std::setw(14) << key << text << '\n';
  }
  return out.str();
}

Status info(const Context& context, const std::string& path) {
  LCRUN_ASSIGN(const auto contents, read_contents(path));
  const Json json = json_of(contents);
  return context.out.write(context.options().json ? json_text(json) + "\n" : table_of(json));
}

Status verify(const Context& context, const std::string& path) {
  LCRUN_ASSIGN(auto contents, read_contents(path));
  Snapshot& snapshot = contents.snapshot;
  LCRUN_ASSIGN(const uint64_t bad, storage::verify_snapshot(snapshot, default_thread_count()));
  if (bad != 0) return damaged(snapshot, format("{} of {} pages: ", bad, snapshot.pages()));
  Json json;
  json["path"] = path;
  json["tokens"] = snapshot.superblock.tokens;
  json["pages"] = snapshot.pages();
  json["checked_bytes"] = snapshot.live_bytes() + snapshot.shared_bytes();
  json["whole"] = true;
  if (context.options().json) return context.out.write(json_text(json) + "\n");
  return context.out.write(format("{}: whole: {} tokens, {} pages, {}\n", path, snapshot.superblock.tokens,
                                  snapshot.pages(),
                                  runtime::bytes_text(snapshot.live_bytes() + snapshot.shared_bytes())));
}

// Sessions in the folder of `path` that share its pages.
std::vector<std::string> children_of(const std::string& path) {
  FileSystem& fs = posix_file_system();
  std::vector<std::string> children;
  const auto parent = storage::open_snapshot(fs, path);
  if (!parent.has_value() || !parent->superblock.sealed) return children;
  const size_t slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "./" : path.substr(0, slash + 1);
  for (const std::string& name : fs.longer_names(folder)) {
    const auto is_session = storage::looks_like_snapshot(fs, name);
    if (!is_session.has_value() || !*is_session) continue;
    const auto other = storage::open_snapshot(fs, name);
    const bool shares = other.has_value() && other->parent.has_value() && other->parent->id == parent->superblock.id;
    if (shares) children.push_back(name);
  }
  return children;
}

Status remove(const Context& context, const std::string& path) {
  LCRUN_ASSIGN(const bool is_session, storage::looks_like_snapshot(posix_file_system(), path));
  if (!is_session) {
    return make_error(Code::kBadSession, "{}: found other bytes, wanted a session file of lcrun; it was left alone",
                      path);
  }
  const auto children = children_of(path);
  if (!children.empty() && !context.options().force) {
    return make_error(Code::kBadSession,
                      "{}: found {} that shares its pages{}, wanted none; it was left alone (--force removes it, and "
                      "--reread then reads their tokens again)",
                      path, children.front(), children.size() > 1 ? format(", and {} more", children.size() - 1) : "");
  }
  LCRUN_TRY(posix_file_system().remove(path));
  if (!context.options().json) return {};
  Json json;
  json["removed"] = path;
  return context.out.write(json_text(json) + "\n");
}

}  // namespace

Status session_command(Context& context) {
  const std::string& what = context.options().positionals[0];
  const std::string& path = context.options().positionals[1];
  if (what == "info") return info(context, path);
  if (what == "verify") return verify(context, path);
  if (what == "rm") return remove(context, path);
  return make_error(Code::kInvalidArgument, "session: found \"{}\", wanted info, verify or rm", what);
}

}  // namespace lcrun::cli
