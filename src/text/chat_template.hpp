// Chat messages to a prompt, by the model's own Jinja template (tokenizer.chat_template).
//
// The Jinja subset: docs/formats.md, "chat templates". Limits: nesting 256, 10 million steps, 16 MiB of output;
// beyond them an error, never a crash. Text that came from messages stays marked as such (Span::trusted = false),
// however the template cuts and joins it, so that a user cannot type a special token.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun::text {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

// A piece of the rendered prompt: `trusted` text comes from the template, the rest from messages.
struct RenderedSpan {
  std::string text;
  bool trusted = false;
};

struct TemplateInput {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
  // Further variables, as JSON object text ("" = none): tools, enable_thinking, documents ...
  std::string extra_json;
  int64_t now_unix_seconds = 0;  // for strftime_now (UTC)
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // kUnsupported or kBadModel with line and column.
  static Result<std::unique_ptr<const ChatTemplate>> parse(std::string_view source);
  // Adjacent pieces of equal trust are joined. raise_exception() in the template: kInvalidArgument with its text.
  virtual Result<std::vector<RenderedSpan>> render(const TemplateInput& input) const = 0;
};

// For models without a template: "ROLE: content" paragraphs that work with base models.
Result<std::vector<RenderedSpan>> render_plain(const TemplateInput& input);

}  // namespace lcrun::text
