#include "cli/drive.hpp"

#include "cli/onlookers.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/byte_stream.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::cli {
namespace {

using runtime::Driver;
using runtime::DriverReading;
using runtime::Options;
using runtime::PassageSource;

// Bytes of a file; 0 for what has no size.
uint64_t size_of(const std::string& path) {
  if (path == "-") return 0;
  const auto file = posix_file_system().open(path, OpenMode::kRead);
  if (!file.has_value()) return 0;
  const auto size = (*file)->size();
  return size.has_value() ? *size : 0;
}

Result<DriverReading> read_text(const Context& given, Run& run, const runtime::PromptLayout& layout,
                                const Driver& driver, const runtime::PromptRequest& request,
                                runtime::DriverState& state) {
  // A driver opens sessions of the size that it needs, whatever context a text without one would take.
  runtime::ParsedOptions parsed = given.parsed;
  parsed.options.n_ctx = 0;
  const Context context{parsed, given.out};
  const Options& options = context.options();
  runtime::DriverSettings settings;
  settings.window = options.driver_window;
  settings.keep = options.driver_keep;
  settings.n_predict = options.n_predict;
  settings.system = request.system;
  LCRUN_ASSIGN(auto stream, open_byte_stream(options.file, interrupt_flag()));
  runtime::StreamPassages text(*run.engine.tokenizer, [&](std::span<char> out) { return stream->read(out); });
  const auto open = [&](int64_t n_ctx) { return open_session(context, run.engine, {n_ctx, n_ctx}); };
  LCRUN_ASSIGN(auto question, layout.question_part(request.question, request.system, request.answer_prefix));
  ProgressLine line("Reading", "bytes");
  const auto total = static_cast<int64_t>(size_of(options.file));
  const auto progress = [&](int64_t, int64_t) {
    line.update(static_cast<int64_t>(text.bytes_read()), total);
    return !interrupted();
  };
  return driver.read({*run.engine.tokenizer, layout, settings, open, text, request.question, std::move(question),
                      !request.answer_prefix.empty(), progress},
                     state);
}

Status write_compressed(const Context& context, const Run& run, const DriverReading& reading) {
  std::string text;
  for (const runtime::PromptPassage& one : reading.passages) {
    const auto tokens =
        std::span(reading.prompt).subspan(static_cast<size_t>(one.begin), static_cast<size_t>(one.end - one.begin));
    text += runtime::text_of(*run.engine.tokenizer, tokens) + "\n";
  }
  const std::string& path = context.options().compress;
  LCRUN_ASSIGN(const auto file, posix_file_system().open(path, OpenMode::kReplaceShared));
  LCRUN_TRY(file->write_at(0, std::as_bytes(std::span(text))));
  const double ratio =
      static_cast<double>(reading.text_tokens) / static_cast<double>(std::max<int64_t>(1, reading.kept_tokens));
  log(LogLevel::kInfo, "{}: {} of {} tokens, compressed {} times", path, reading.kept_tokens, reading.text_tokens,
      static_cast<double>(static_cast<int64_t>(ratio * 10 + 0.5)) / 10);
  return {};
}

}  // namespace

Result<const Driver*> driver_of(const Context& context) {
  const Options& options = context.options();
  const Driver* driver = runtime::find_driver(options.driver);
  if (driver == nullptr) {
    if (!options.compress.empty()) return make_error(Code::kInvalidArgument, "--compress: wanted a --driver, too");
    return driver;
  }
  if (options.file.empty() || options.prompt.empty()) {
    return make_error(Code::kInvalidArgument, "--driver {}: wanted a text (-f FILE) and a question (-p TEXT)",
                      options.driver);
  }
  if (!options.session.empty()) {
    return make_error(Code::kInvalidArgument, "--driver {}: takes no --session: it keeps no whole text",
                      options.driver);
  }
  return driver;
}

Status drive(const Context& context, Run& run, const runtime::PromptLayout& layout, const Driver& driver,
             const runtime::PromptRequest& request) {
  runtime::DriverState state;
  LCRUN_ASSIGN(const auto reading, read_text(context, run, layout, driver, request, state));
  if (reading.text_tokens == 0) {
    return make_error(Code::kInvalidArgument, "-f {}: the text is empty", context.options().file);
  }
  if (!context.options().compress.empty()) LCRUN_TRY(write_compressed(context, run, reading));
  run.generate.ask_from = reading.text_end;
  runtime::Session& session = *state.session;
  std::optional<runtime::CitationWatch> watch;
  if (wants_citations(context)) watch.emplace(session, reading.text_end, static_cast<int64_t>(reading.prompt.size()));
  LCRUN_ASSIGN(const auto onlookers, Onlookers::attach(context, session));
  onlookers->expect_answer(static_cast<int64_t>(reading.prompt.size()) - 1);
  LCRUN_ASSIGN(const auto made, stream_reply(context, run.engine, run.generate, session, reading.prompt));
  ReplyExtras extras;
  extras.recall = onlookers->recall();
  if (watch.has_value()) extras.citations = watch->cite(*run.engine.tokenizer, reading.prompt, reading.passages);
  extras.driver = {driver.name, reading.text_tokens, reading.kept_tokens};
  return finish_reply(context, run, session, made, extras);
}

}  // namespace lcrun::cli
