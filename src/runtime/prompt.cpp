#include "src/runtime/prompt.hpp"

#include <ctime>

#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::runtime {
namespace {

using text::ChatMessage;
using text::RenderedSpan;

constexpr std::string_view kBlankLine = "\n\n";

// Templates trim what a message says; a question is trimmed here so that its end can be found again.
std::string_view without_last_blanks(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::string all_text(const std::vector<RenderedSpan>& spans) {
  std::string text;
  for (const auto& span : spans) text += span.text;
  return text;
}

// The spans from byte `offset` of their joined text on.
std::vector<RenderedSpan> spans_from(const std::vector<RenderedSpan>& spans, size_t offset) {
  std::vector<RenderedSpan> rest;
  for (const auto& span : spans) {
    if (offset >= span.text.size()) {
      offset -= span.text.size();
      continue;
    }
    rest.push_back({span.text.substr(offset), span.trusted});
    offset = 0;
  }
  return rest;
}

std::vector<RenderedSpan> spans_until(const std::vector<RenderedSpan>& spans, size_t offset) {
  std::vector<RenderedSpan> first;
  for (const auto& span : spans) {
    if (offset == 0) break;
    const size_t take = std::min(offset, span.text.size());
    first.push_back({span.text.substr(0, take), span.trusted});
    offset -= take;
  }
  return first;
}

// Where, in the joined text of the spans, the last untrusted span ending in `tail` has that tail begin.
size_t find_tail(const std::vector<RenderedSpan>& spans, std::string_view tail) {
  size_t end = all_text(spans).size();
  for (size_t i = spans.size(); i-- > 0;) {
    const RenderedSpan& span = spans[i];
    if (!span.trusted && span.text.size() >= tail.size() &&
        std::string_view(span.text).substr(span.text.size() - tail.size()) == tail) {
      return end - tail.size();
    }
    end -= span.text.size();
  }
  return std::string::npos;
}

void append(std::vector<Token>& to, const std::vector<Token>& tokens) {
  to.insert(to.end(), tokens.begin(), tokens.end());
}

}  // namespace

Result<PromptLayout> PromptLayout::create(std::shared_ptr<const text::Tokenizer> tokenizer, bool use_chat,
                                          const std::string& template_source) {
  PromptLayout layout;
  layout.tokenizer_ = std::move(tokenizer);
  layout.use_chat_ = use_chat;
  if (use_chat && !template_source.empty()) {
    auto parsed = text::ChatTemplate::parse(template_source);
    if (!parsed.has_value()) {
      return make_error(parsed.error().code, "chat template: {}; -no-cnv goes without it", parsed.error().message);
    }
    layout.template_ = std::move(parsed).value();
  }
  return layout;
}

Result<std::vector<RenderedSpan>> PromptLayout::render(const std::vector<ChatMessage>& messages) const {
  text::TemplateInput input;
  input.messages = messages;
  const auto& special = tokenizer_->special();
  if (special.bos >= 0) input.bos_token = std::string(tokenizer_->raw_text(special.bos));
  if (special.eos >= 0) input.eos_token = std::string(tokenizer_->raw_text(special.eos));
  input.now_unix_seconds = static_cast<int64_t>(std::time(nullptr));
  return template_ ? template_->render(input) : text::render_plain(input);
}

std::vector<Token> PromptLayout::encode(const std::vector<RenderedSpan>& spans, bool at_start) const {
  std::vector<text::Span> views;
  for (const auto& span : spans) views.push_back({span.text, span.trusted});
  if (!at_start) return tokenizer_->encode_continuation(views);
  bool add_special = true;
  // Templates that write BOS themselves must not get a second one.
  const Token bos = tokenizer_->special().bos;
  if (bos >= 0 && !spans.empty() && spans.front().trusted) {
    const std::string_view bos_text = tokenizer_->raw_text(bos);
    if (!bos_text.empty() && spans.front().text.compare(0, bos_text.size(), bos_text) == 0) add_special = false;
  }
  std::vector<Token> tokens = tokenizer_->encode_spans(views, add_special);
  // EOS belongs to finished documents, not before a reply.
  const bool ends_with_eos = !tokens.empty() && tokens.back() == tokenizer_->special().eos;
  if (add_special && tokenizer_->adds_eos() && ends_with_eos) tokens.pop_back();
  return tokens;
}

Result<PromptLayout::Parts> PromptLayout::chat_parts(const PromptRequest& request) const {
  const std::string_view text = text_in_prompt(request.text);
  const std::string_view question = without_last_blanks(request.question);
  std::string tail;
  if (!text.empty() && !question.empty()) tail = std::string(kBlankLine) + std::string(question);
  std::vector<ChatMessage> messages;
  if (!request.system.empty()) messages.push_back({"system", request.system});
  messages.push_back({"user", text.empty() ? request.question : std::string(text) + tail});
  LCRUN_ASSIGN(const auto spans, render(messages));
  size_t split = 0;
  if (!tail.empty()) split = find_tail(spans, tail);
  if (split == std::string::npos) {
    log(LogLevel::kWarn, "the chat template rewrites the message: its text is tokenised together with the question");
    split = 0;
  }
  Parts parts;
  if (split != 0) parts.before = encode(spans_until(spans, split), true);
  parts.after = encode(spans_from(spans, split), split == 0);
  return parts;
}

PromptLayout::Parts PromptLayout::plain_parts(const PromptRequest& request) const {
  Parts parts;
  if (request.text.empty()) {
    parts.after = encode({{request.question, true}}, true);
    return parts;
  }
  if (request.question.empty()) {
    parts.before = encode({{request.text, true}}, true);
    return parts;
  }
  parts.before = encode({{std::string(text_in_prompt(request.text)), true}}, true);
  parts.after = encode({{std::string(kBlankLine) + request.question, true}}, false);
  return parts;
}

Result<PromptLayout::Parts> PromptLayout::parts_of(const PromptRequest& request) const {
  if (use_chat_) return chat_parts(request);
  return plain_parts(request);
}

Result<std::vector<Token>> PromptLayout::single(const PromptRequest& request) const {
  LCRUN_ASSIGN(auto made, single_and_border(request));
  return std::move(made.tokens);
}

Result<PromptLayout::Single> PromptLayout::single_and_border(const PromptRequest& request) const {
  if (request.text.empty() && request.question.empty()) {
    return make_error(Code::kInvalidArgument, "the prompt is empty; give -p TEXT or -f FILE");
  }
  LCRUN_ASSIGN(auto parts, parts_of(request));
  Single made{std::move(parts.before), 0};
  made.text_tokens = static_cast<int64_t>(made.tokens.size());
  append(made.tokens, parts.after);
  if (!request.answer_prefix.empty()) append(made.tokens, encode({{request.answer_prefix, false}}, false));
  return made;
}

Result<std::vector<Token>> PromptLayout::text_part(const PromptRequest& request) const {
  LCRUN_ASSIGN(auto parts, parts_of({request.text, "?", {}, request.system}));
  return std::move(parts.before);
}

Result<std::vector<Token>> PromptLayout::question_part(const std::string& question, const std::string& system,
                                                       const std::string& answer_prefix) const {
  if (question.empty()) return make_error(Code::kInvalidArgument, "the question is empty");
  const PromptRequest request{"any text", question, answer_prefix, system};
  LCRUN_ASSIGN(auto parts, parts_of(request));
  std::vector<Token> tokens = std::move(parts.after);
  if (!answer_prefix.empty()) append(tokens, encode({{answer_prefix, false}}, false));
  return tokens;
}

Result<PromptLayout::Turn> PromptLayout::next_turn(const std::vector<ChatMessage>& messages,
                                                   std::string& rendered_before) const {
  LCRUN_ASSIGN(const auto spans, render(messages));
  const std::string whole = all_text(spans);
  Turn turn;
  turn.from_start = rendered_before.empty() || whole.size() <= rendered_before.size() ||
                    whole.compare(0, rendered_before.size(), rendered_before) != 0;
  turn.tokens = turn.from_start ? encode(spans, true) : encode(spans_from(spans, rendered_before.size()), false);
  rendered_before = whole;
  return turn;
}

Result<std::vector<Token>> PromptLayout::frame(const std::string& system) const {
  constexpr std::string_view kText = "Any text.";
  if (!use_chat_) return encode({}, true);
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", std::string(kText)});
  LCRUN_ASSIGN(const auto spans, render(messages));
  // The message's own text, not the same words in a system prompt.
  size_t at = 0;
  size_t found = std::string::npos;
  for (const RenderedSpan& span : spans) {
    if (!span.trusted && span.text == kText) found = at;
    at += span.text.size();
  }
  if (found == std::string::npos) return std::vector<Token>();
  return encode(spans_until(spans, found), true);
}

// Exactly one blank line parts a text from its question.
std::string_view text_in_prompt(std::string_view text) {
  const size_t last = text.find_last_not_of("\r\n");
  return last == std::string_view::npos ? std::string_view() : text.substr(0, last + 1);
}

std::string process_escapes(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char next = text[++i];
    switch (next) {
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case 'r':
        out += '\r';
        break;
      case '\\':
        out += '\\';
        break;
      case '"':
        out += '"';
        break;
      case '\'':
        out += '\'';
        break;
      default:
        out += '\\';
        out += next;
    }
  }
  return out;
}

}  // namespace lcrun::runtime
