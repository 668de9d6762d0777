#include "cli/session_store.hpp"

#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::cli {

storage::SyncMode sync_mode(const runtime::Options& options) {
  if (options.kv_sync == "none") return storage::SyncMode::kNone;
  return options.kv_sync == "full" ? storage::SyncMode::kFull : storage::SyncMode::kBarrier;
}

Status check_session_option(const Context& context) {
  const std::string& path = context.options().session;
  if (path.empty()) return {};
  FileSystem& fs = posix_file_system();
  if (fs.exists(path)) {
    LCRUN_ASSIGN(const auto snapshot, storage::open_snapshot(fs, path));
    if (!snapshot.superblock.sealed) return {};
    return make_error(Code::kBadSession, "{}: found a sealed session, which is never changed; wanted one to go on in",
                      path);
  }
  const size_t slash = path.find_last_of('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  if (fs.exists(directory)) return {};
  return make_error(Code::kIo, "--session {}: there is no directory {}", path, directory);
}

Result<runtime::Session::Restored> load_session(const Context& context, runtime::Session& session,
                                                const std::string& path) {
  using IfParentIsMissing = runtime::Session::IfParentIsMissing;
  const auto missing = context.options().reread ? IfParentIsMissing::kReread : IfParentIsMissing::kRefuse;
  LCRUN_ASSIGN(auto restored, session.load(posix_file_system(), path, missing));
  if (!restored.damage.empty()) log(LogLevel::kWarn, "{}: {}; the rest is read again", path, restored.damage);
  if (!restored.attention.empty() && restored.attention != session.attention_text()) {
    log(LogLevel::kInfo, "{}: it was read with: {}; it goes on with: {}", path, restored.attention,
        session.attention_text());
  }
  return restored;
}

Result<std::optional<runtime::Session::Restored>> resume_session(const Context& context, runtime::Session& session) {
  const std::string& kept = context.options().session;
  const bool is_there = !kept.empty() && posix_file_system().exists(kept);
  const std::string& path = is_there ? kept : context.options().from;
  if (path.empty()) return std::optional<runtime::Session::Restored>();
  LCRUN_ASSIGN(auto restored, load_session(context, session, path));
  return std::optional(std::move(restored));
}

Status keep_session(const Context& context, runtime::Session& session, std::string_view note) {
  const std::string& path = context.options().session;
  if (path.empty() || session.tokens().empty()) return {};
  LCRUN_ASSIGN(const auto report,
               session.save(posix_file_system(), path, {.note = note, .sync = sync_mode(context.options())}));
  log(LogLevel::kDebug, "{}: {} tokens saved: {} pages, {} bytes written{}", path, session.tokens().size(),
      report.pages, report.bytes, report.whole ? " to a new file" : "");
  return {};
}

}  // namespace lcrun::cli
