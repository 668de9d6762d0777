// lcrun encode: reads a long text once, into a sealed session file that `ask` answers from.
//
// Until it is whole the file is called S.partial; it is saved every 16,384 tokens and when the reading is stopped, and
// the same command goes on from there. What does not fit in memory is read and saved all the same (storage pages).
#include <chrono>

#include "cli/command.hpp"
#include "cli/encoded_text.hpp"
#include "cli/json_text.hpp"
#include "cli/reply.hpp"
#include "cli/session_store.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::cli {
namespace {

using runtime::Options;
using runtime::Session;
using runtime::Token;
using Clock = std::chrono::steady_clock;

constexpr size_t kSaveEvery = 16384;       // tokens
constexpr int64_t kRoomForAnswers = 4096;  // tokens of context beyond the text, when -c is left out

struct Encoding {
  std::string path, partial;
  EncodedText text;
  std::vector<Token> tokens;
  int64_t resumed = 0;
  double seconds = 0;
};

Status check_options(const Context& context) {
  const Options& options = context.options();
  if (!context.parsed.is_given("file")) return make_error(Code::kInvalidArgument, "-f: wanted the text to read");
  if (options.session.empty()) return make_error(Code::kInvalidArgument, "--session: wanted the file to write");
  return {};
}

// What an earlier run left; anything wrong with it means beginning anew.
int64_t resume(const Encoding& encoding, Session& session) {
  if (!posix_file_system().exists(encoding.partial)) return 0;
  const auto restored = session.load(posix_file_system(), encoding.partial);
  if (!restored.has_value()) {
    log(LogLevel::kWarn, "{}; reading from the start", restored.error().message);
    return 0;
  }
  const auto& found = session.tokens();
  const bool is_ours =
      found.size() <= encoding.tokens.size() && std::equal(found.begin(), found.end(), encoding.tokens.begin());
  if (!is_ours) session.clear();
  return static_cast<int64_t>(session.tokens().size());
}

Status read_text(const Context& context, Encoding& encoding, Session& session) {
  ProgressLine line("Reading", "tokens");
  const auto total = static_cast<int64_t>(encoding.tokens.size());
  const auto progress = [&](int64_t done, int64_t) {
    line.update(done, total);
    return !interrupted();
  };
  const std::string note = encoding.text.note();
  const Session::SaveOptions unsealed{.note = note, .sync = sync_mode(context.options())};
  const auto start = Clock::now();
  encoding.resumed = resume(encoding, session);
  Status read;
  for (size_t done = session.tokens().size(); read.has_value() && done < encoding.tokens.size();) {
    done = std::min(done / kSaveEvery * kSaveEvery + kSaveEvery, encoding.tokens.size());
    auto logits = session.sync(std::span(encoding.tokens).first(done), progress, INT64_MAX);
    if (!logits.has_value()) read = Error(std::move(logits).error());
    // Also what was read before it was stopped.
    if (done < encoding.tokens.size() || !read.has_value()) {
      auto saved = session.save(posix_file_system(), encoding.partial, unsealed);
      if (!saved.has_value() && read.has_value()) read = Error(std::move(saved).error());
    }
  }
  line.clear();
  encoding.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!read.has_value()) {
    log(LogLevel::kInfo, "{} of {} tokens are in {}; the same command goes on from there", session.tokens().size(),
        total, encoding.partial);
    return read;
  }
  LCRUN_TRY(session.save(posix_file_system(), encoding.partial, {.note = note, .sync = unsealed.sync, .seal = true}));
  LCRUN_TRY(posix_file_system().rename(encoding.partial, encoding.path));
  return posix_file_system().sync_directory_of(encoding.path);
}

Status print_summary(const Context& context, const Encoding& encoding) {
  LCRUN_ASSIGN(const auto file, posix_file_system().open(encoding.path, OpenMode::kRead));
  LCRUN_ASSIGN(const uint64_t bytes, file->size());
  const auto read = static_cast<double>(static_cast<int64_t>(encoding.tokens.size()) - encoding.resumed);
  const double rate = encoding.seconds > 0 ? read / encoding.seconds : 0;
  if (!context.options().json) {
    return context.out.write(format("{}: {} tokens of {}, {} ({} tokens read at {}/s)\n", encoding.path,
                                    encoding.tokens.size(), encoding.text.file, runtime::bytes_text(bytes),
                                    static_cast<int64_t>(read), static_cast<int64_t>(rate)));
  }
  Json json;
  json["session"] = encoding.path;
  json["file"] = encoding.text.file;
  json["text_bytes"] = encoding.text.text_bytes;
  json["tokens"] = encoding.tokens.size();
  json["resumed_tokens"] = encoding.resumed;
  json["seconds"] = encoding.seconds;
  json["prefill_tps"] = rate;
  json["file_bytes"] = bytes;
  return context.out.write(json_text(json) + "\n");
}

}  // namespace

Status encode_command(Context& context) {
  const Options& options = context.options();
  LCRUN_TRY(check_options(context));
  Encoding encoding;
  encoding.path = options.session;
  encoding.partial = options.session + ".partial";
  LCRUN_ASSIGN(const std::string text, read_input(options.file));
  if (text.empty()) return make_error(Code::kInvalidArgument, "-f {}: the text is empty", options.file);
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  const auto [use_chat, source] = chat_choice(options, engine);
  LCRUN_ASSIGN(const auto layout, runtime::PromptLayout::create(engine.tokenizer, use_chat, source));
  encoding.text = {use_chat,
                   use_chat ? source : "",
                   options.system_prompt,
                   options.file,
                   text.size(),
                   runtime::text_in_prompt(text).size()};
  LCRUN_ASSIGN(encoding.tokens, layout.text_part({text, "", "", options.system_prompt}));
  if (encoding.tokens.empty()) {
    return make_error(Code::kUnsupported,
                      "the chat template rewrites the text, which must lie in the prompt as it is; "
                      "supported: -no-cnv, or another --chat-template");
  }
  const auto n = static_cast<int64_t>(encoding.tokens.size());
  const int64_t fits_all = std::max(engine.model->config().n_ctx_train, n + kRoomForAnswers);
  LCRUN_ASSIGN(auto session, open_session(context, engine, {options.n_ctx > 0 ? 0 : fits_all, n}));
  LCRUN_TRY(read_text(context, encoding, session));
  return print_summary(context, encoding);
}

}  // namespace lcrun::cli
