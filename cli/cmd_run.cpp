// lcrun run: one prompt to one reply, or a chat.
#include <algorithm>
#include <optional>

#include "cli/chat.hpp"
#include "cli/command.hpp"
#include "cli/drive.hpp"
#include "cli/onlookers.hpp"
#include "cli/reply.hpp"
#include "cli/session_store.hpp"
#include "cli/setup.hpp"
#include "src/base/format.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::cli {
namespace {

using runtime::Engine;
using runtime::Options;
using runtime::PromptLayout;
using runtime::PromptRequest;

PromptRequest request_without_text(const Context& context) {
  const Options& options = context.options();
  PromptRequest request;
  const auto text = [&](const std::string& raw) { return options.escape ? runtime::process_escapes(raw) : raw; };
  request.question = text(options.prompt);
  request.system = text(options.system_prompt);
  request.answer_prefix = options.answer_prefix;
  return request;
}

// What the prompt is made of; reads -f and, without any prompt and away from a terminal, standard input.
Result<PromptRequest> prompt_of(const Context& context) {
  const Options& options = context.options();
  PromptRequest request = request_without_text(context);
  const bool has_prompt = context.parsed.is_given("prompt");
  const bool has_file = context.parsed.is_given("file");
  if (has_file) {
    LCRUN_ASSIGN(request.text, read_input(options.file));
    if (request.text.empty() && !has_prompt) {
      return make_error(Code::kInvalidArgument, "-f {}: the text is empty", options.file);
    }
  } else if (!has_prompt) {
    LCRUN_ASSIGN(request.question, read_input("-"));
  }
  if (request.text.empty() && request.question.empty()) {
    return make_error(Code::kInvalidArgument, "the prompt is empty; give -p TEXT, -f FILE or text on standard input");
  }
  return request;
}

bool wants_chat(const Context& context) {
  const bool has_prompt = context.parsed.is_given("prompt") || context.parsed.is_given("file");
  const std::string& conversation = context.options().conversation;
  if (conversation == "off" || context.options().json) return false;
  // -cnv -f TEXT without a question: a chat about the text.
  if (conversation == "on" && context.parsed.is_given("file") && !context.parsed.is_given("prompt")) return true;
  if (!has_prompt) return conversation == "on" || (stdin_is_terminal() && stdout_is_terminal());
  // -cnv -p TEXT on a terminal: the prompt is the first turn.
  return conversation == "on" && !context.parsed.is_given("file") && stdin_is_terminal() && stdout_is_terminal() &&
         !context.options().single_turn;
}

Result<PromptLayout> layout_of(const Context& context, const Engine& engine) {
  const ChatChoice choice = chat_choice(context.options(), engine);
  return PromptLayout::create(engine.tokenizer, choice.use_chat, choice.source);
}

Status reply_once(const Context& context, Run& run, const PromptLayout& layout, const PromptRequest& request) {
  LCRUN_ASSIGN(const auto made_prompt, layout.single_and_border(request));
  const std::vector<runtime::Token>& prompt = made_prompt.tokens;
  if (!request.text.empty() && !request.question.empty()) run.generate.ask_from = made_prompt.text_tokens;
  const auto n_prompt = static_cast<int64_t>(prompt.size());
  const int64_t n_predict = std::max<int64_t>(context.options().n_predict, 1);
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, {0, n_prompt + n_predict}));
  LCRUN_TRY(resume_session(context, session));
  std::optional<runtime::CitationWatch> watch;
  const bool has_border = !request.text.empty() && !request.question.empty() && made_prompt.text_tokens > 0;
  if (has_border && wants_citations(context)) watch.emplace(session, made_prompt.text_tokens, n_prompt);
  LCRUN_ASSIGN(const auto onlookers, Onlookers::attach(context, session));
  onlookers->expect_answer(n_prompt - 1);
  const auto reply = stream_reply(context, run.engine, run.generate, session, prompt);
  // What was read is kept also when the reply was stopped, or nobody took it.
  const Status kept = keep_session(context, session, {});
  LCRUN_ASSIGN(const auto made, reply);
  ReplyExtras extras;
  extras.recall = onlookers->recall();
  if (watch.has_value()) {
    const auto text = std::span(prompt).first(static_cast<size_t>(made_prompt.text_tokens));
    const uint64_t bytes = runtime::text_in_prompt(request.text).size();
    extras.citations =
        watch->cite(*run.engine.tokenizer, prompt, runtime::passages_of(*run.engine.tokenizer, text, bytes));
  }
  LCRUN_TRY(finish_reply(context, run, session, made, extras));
  return kept;
}

Status chat_about_text(const Context& context, const Run& run, const PromptLayout& layout) {
  constexpr int64_t kRoomForTurns = 8192;  // tokens, when -c is left out
  const Options& options = context.options();
  if (options.file == "-") return make_error(Code::kInvalidArgument, "-f -: a chat needs standard input for itself");
  LCRUN_ASSIGN(const std::string all, read_input(options.file));
  const std::string text(runtime::text_in_prompt(all));
  if (text.empty()) return make_error(Code::kInvalidArgument, "-f {}: the text is empty", options.file);
  LCRUN_ASSIGN(auto tokens, layout.text_part({text, "", "", options.system_prompt}));
  if (tokens.empty()) {
    return make_error(Code::kUnsupported, "the chat template rewrites the text, which must lie in the prompt as it is");
  }
  const auto n = static_cast<int64_t>(tokens.size());
  const int64_t n_ctx = std::max(run.engine.model->config().n_ctx_train, n + kRoomForTurns);
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, {options.n_ctx > 0 ? 0 : n_ctx, n}));
  return chat({context, run.engine, layout, session, run.generate, text, std::move(tokens)}, "");
}

}  // namespace

Status run_command(Context& context) {
  Run run;
  LCRUN_TRY(check_session_option(context));
  if (!wants_chat(context)) {
    const std::string& model = context.options().model;
    if (!model.empty() && !posix_file_system().exists(model)) {
      return make_error(Code::kBadModel, "{}: open failed: No such file or directory", model);
    }
    LCRUN_ASSIGN(const runtime::Driver* const driver, driver_of(context));
    if (driver != nullptr) {
      LCRUN_TRY(prepare_run(context, run));
      LCRUN_ASSIGN(const auto layout, layout_of(context, run.engine));
      return drive(context, run, layout, *driver, request_without_text(context));
    }
    // Read before the model is: a mistake in the prompt shows at once.
    LCRUN_ASSIGN(const auto request, prompt_of(context));
    LCRUN_TRY(prepare_run(context, run));
    LCRUN_ASSIGN(const auto layout, layout_of(context, run.engine));
    return reply_once(context, run, layout, request);
  }
  LCRUN_TRY(prepare_run(context, run));
  LCRUN_ASSIGN(const auto layout, layout_of(context, run.engine));
  run.generate.answer_prefix.clear();
  if (context.parsed.is_given("file")) return chat_about_text(context, run, layout);
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, {0, 1}));
  return chat({context, run.engine, layout, session, run.generate}, context.options().prompt);
}

}  // namespace lcrun::cli
