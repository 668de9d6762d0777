// lcrun ask: answers from a session that `encode` has read. The file is not changed, and several processes may ask at
// once. With the same options and --temp 0 the tokens are those of `run -f FILE -p QUESTION`.
#include <algorithm>
#include <cctype>
#include <optional>

#include "cli/command.hpp"
#include "cli/encoded_text.hpp"
#include "cli/onlookers.hpp"
#include "cli/reply.hpp"
#include "cli/session_store.hpp"
#include "cli/setup.hpp"
#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/runtime/prompt.hpp"
#include "src/runtime/session_file.hpp"

namespace lcrun::cli {
namespace {

using runtime::PromptLayout;
using runtime::Session;
using runtime::Token;

struct Source {
  runtime::SessionIdentity identity;
  EncodedText text;
  int64_t tokens = 0;
  bool has_index = false;
};

Result<Source> open_source(const std::string& path) {
  if (path.empty()) return make_error(Code::kInvalidArgument, "--session: wanted a file made by `lcrun encode`");
  Source source;
  LCRUN_ASSIGN(const auto snapshot, storage::open_snapshot(posix_file_system(), path));
  LCRUN_ASSIGN(source.identity, runtime::decode_identity(snapshot.identity, path));
  LCRUN_ASSIGN(const auto extra, runtime::decode_extra(snapshot, source.identity.n_vocab));
  LCRUN_ASSIGN(source.text, EncodedText::from_note(extra.note, path));
  source.tokens = static_cast<int64_t>(snapshot.superblock.tokens);
  for (const auto& layer : snapshot.tables) {
    for (const auto& table : layer) {
      source.has_index = source.has_index || table.spec.kind == storage::RegionKind::kIndex;
    }
  }
  return source;
}

std::string option_name_of(uint32_t type) {
  std::string name(quant::type_name(static_cast<DType>(type)));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

// The options as if they had been given for this session.
Result<runtime::ParsedOptions> options_for(const Context& context, const Source& source) {
  runtime::ParsedOptions parsed = context.parsed;
  runtime::Options& options = parsed.options;
  if (options.model.empty()) {
    options.model = source.identity.model_path;
    if (!posix_file_system().exists(options.model)) {
      return make_error(Code::kBadModel, "{}: names the model {}, which is not there; give -m FILE", options.session,
                        options.model);
    }
  }
  // A text that was read exactly is asked exactly.
  if (!source.has_index && options.attention == "auto") options.attention = "dense";
  options.type_k = option_name_of(source.identity.type_k);
  options.type_v = option_name_of(source.identity.type_v);
  return parsed;
}

Result<std::vector<std::vector<Token>>> question_tokens(const Context& context, const PromptLayout& layout,
                                                        const Source& source) {
  const auto& options = context.options();
  std::vector<std::string> questions = options.questions;
  if (questions.empty()) {
    LCRUN_ASSIGN(auto text, read_input("-"));
    questions.push_back(std::move(text));
  }
  std::vector<std::vector<Token>> all;
  for (const std::string& raw : questions) {
    const std::string question = options.escape ? runtime::process_escapes(raw) : raw;
    LCRUN_ASSIGN(auto tokens, layout.question_part(question, source.text.system, options.answer_prefix));
    all.push_back(std::move(tokens));
  }
  return all;
}

// The text's tokens, read again as far as the file has lost their state.
Result<std::vector<Token>> restore(const Context& context, Session& session) {
  LCRUN_ASSIGN(auto restored, load_session(context, session, context.options().session));
  if (session.tokens().size() < restored.tokens.size()) LCRUN_TRY(session.sync(restored.tokens, {}, INT64_MAX));
  return std::move(restored.tokens);
}

Status answer(const Context& context, const Run& run, Session& session, const Source& source,
              const PromptLayout::Single& prompt, Onlookers& onlookers) {
  const text::Tokenizer& tokenizer = *run.engine.tokenizer;
  std::optional<runtime::CitationWatch> watch;
  if (wants_citations(context)) {
    watch.emplace(session, prompt.text_tokens, static_cast<int64_t>(prompt.tokens.size()));
  }
  onlookers.expect_answer(static_cast<int64_t>(prompt.tokens.size()) - 1);
  LCRUN_ASSIGN(const auto made, stream_reply(context, run.engine, run.generate, session, prompt.tokens));
  ReplyExtras extras;
  extras.recall = onlookers.recall();
  if (watch.has_value()) {
    const auto text = std::span(prompt.tokens).first(static_cast<size_t>(prompt.text_tokens));
    extras.citations =
        watch->cite(tokenizer, prompt.tokens, runtime::passages_of(tokenizer, text, source.text.prompt_bytes));
  }
  return finish_reply(context, run, session, made, extras);
}

}  // namespace

Status ask_command(Context& given) {
  LCRUN_ASSIGN(const Source source, open_source(given.options().session));
  LCRUN_ASSIGN(const auto parsed, options_for(given, source));
  const Context context{parsed, given.out};
  Run run;
  LCRUN_TRY(prepare_run(context, run));
  LCRUN_ASSIGN(const auto layout,
               PromptLayout::create(run.engine.tokenizer, source.text.use_chat, source.text.chat_template));
  LCRUN_ASSIGN(const auto questions, question_tokens(context, layout, source));
  size_t longest = 0;
  for (const auto& question : questions) longest = std::max(longest, question.size());
  const int64_t n_predict = std::max<int64_t>(context.options().n_predict, 1);
  const int64_t needed = source.tokens + static_cast<int64_t>(longest) + n_predict;
  const int64_t n_ctx = context.options().n_ctx > 0 ? 0 : std::max(source.identity.n_ctx, needed);
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, {n_ctx, needed, source.tokens}));
  LCRUN_ASSIGN(const auto text, restore(context, session));
  LCRUN_ASSIGN(const auto mark, session.mark());
  LCRUN_ASSIGN(const auto onlookers, Onlookers::attach(context, session));
  run.generate.ask_from = static_cast<int64_t>(text.size());
  for (const auto& question : questions) {
    if (&question != &questions.front()) {
      LCRUN_TRY(session.rewind(mark));
      if (!context.options().json && !stdout_is_terminal()) LCRUN_TRY(context.out.write("\n"));
    }
    std::vector<Token> prompt = text;
    prompt.insert(prompt.end(), question.begin(), question.end());
    LCRUN_TRY(answer(context, run, session, source, {prompt, static_cast<int64_t>(text.size())}, *onlookers));
  }
  return {};
}

}  // namespace lcrun::cli
