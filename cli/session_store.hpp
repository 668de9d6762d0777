// The file of --session: where a run goes on from, and where it leaves what it has read and said.
//
// Thread rule: the main thread.
#pragma once

#include <optional>
#include <string_view>

#include "cli/command.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

// --kv-sync.
storage::SyncMode sync_mode(const runtime::Options& options);

// Before anything is loaded: could the file be made, or read? kBadSession, kIo.
Status check_session_option(const Context& context);

// Fills the session from a file; damage is told on stderr. Errors of Session::load().
Result<runtime::Session::Restored> load_session(const Context& context, runtime::Session& session,
                                                const std::string& path);

// The same with the file of --session, or, while that is not there, of --from; else nothing. kBadSession: not
// this model's, beyond use, or sealed (it could not be saved again).
Result<std::optional<runtime::Session::Restored>> resume_session(const Context& context, runtime::Session& session);

// Saves to the file, also after an interruption; nothing without --session, or for an empty session.
Status keep_session(const Context& context, runtime::Session& session, std::string_view note);

}  // namespace lcrun::cli
