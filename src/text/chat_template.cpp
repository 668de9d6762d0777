// The door to the Jinja interpreter: variables in, marked spans out, errors with line and column.
#include "src/text/chat_template.hpp"

#include <algorithm>
#include <new>

#include "src/base/format.hpp"
#include "src/text/jinja_interpreter.hpp"
#include "src/text/jinja_parser.hpp"

namespace lcrun::text {
namespace {

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

// Line and column (from 1, in code points) of a byte.
Error located(const jinja::TemplateError& error, std::string_view source, size_t fallback_offset) {
  const size_t offset = std::min(error.offset == jinja::kNoOffset ? fallback_offset : error.offset, source.size());
  const std::string_view before = source.substr(0, offset);
  const size_t newline = before.rfind('\n');
  const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
  return make_error(error.code, "chat template, line {}, column {}: {}",
                    1 + std::count(before.begin(), before.end(), '\n'), 1 + jinja::cp_count(before.substr(start)),
                    error.message);
}

std::string with_unix_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 >= source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  return out;
}

std::vector<RenderedSpan> spans_of(const jinja::Text& text) {
  std::vector<RenderedSpan> spans;
  size_t start = 0;
  for (const jinja::Text::Run& run : text.runs()) {
    spans.push_back({text.bytes().substr(start, run.end - start), run.trusted});
    start = run.end;
  }
  return spans;
}

std::unordered_map<std::string, jinja::Value> variables_of(const TemplateInput& input) {
  using jinja::make_text;
  std::unordered_map<std::string, jinja::Value> variables;
  if (!input.extra_json.empty()) {
    const jinja::Value extra = jinja::from_json(input.extra_json, false);
    const auto* dict = extra.as<jinja::DictPtr>();
    if (dict == nullptr) jinja::fail("the template's further variables must be a JSON object");
    for (const auto& [key, value] : (*dict)->entries) variables[key.text().bytes()] = value;
  }
  std::vector<jinja::Value> messages;
  for (const ChatMessage& message : input.messages) {
    jinja::Dict dict;
    dict.set(make_text("role", true), make_text(message.role, false));
    dict.set(make_text("content", true), make_text(message.content, false));
    messages.push_back(jinja::make_dict(std::move(dict)));
  }
  // "messages" in extra_json are full ones (tool calls, parts) and win over the plain list.
  if (variables.find("messages") == variables.end()) variables["messages"] = jinja::make_list(std::move(messages));
  variables["add_generation_prompt"] = input.add_generation_prompt;
  variables["bos_token"] = make_text(input.bos_token, true);
  variables["eos_token"] = make_text(input.eos_token, true);
  return variables;
}

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(std::string source, jinja::Block block) : source_(std::move(source)), block_(std::move(block)) {}

  Result<std::vector<RenderedSpan>> render(const TemplateInput& input) const override {
    try {
      return render_or_throw(input);
    } catch (const jinja::TemplateError& error) {
      return error.offset == jinja::kNoOffset ? Error{error.code, "chat template: " + error.message}
                                              : located(error, source_, 0);
    } catch (const std::bad_alloc&) {
      return make_error(Code::kNoMemory, "chat template: not enough memory to render it");
    }
  }

 private:
  std::vector<RenderedSpan> render_or_throw(const TemplateInput& input) const {
    jinja::Interpreter interpreter(variables_of(input), input.now_unix_seconds);
    try {
      return spans_of(interpreter.render(block_));
    } catch (jinja::TemplateError& error) {
      if (error.offset == jinja::kNoOffset) error.offset = interpreter.here();
      throw;
    }
  }

  std::string source_;
  jinja::Block block_;
};

}  // namespace

Result<std::unique_ptr<const ChatTemplate>> ChatTemplate::parse(std::string_view source) {
  if (source.size() > kMaxTemplateBytes) {
    return make_error(Code::kUnsupported, "chat template: {} bytes, wanted at most {}", source.size(),
                      kMaxTemplateBytes);
  }
  try {
    std::string text = with_unix_newlines(source);
    try {
      jinja::Block block = jinja::parse(text);
      return std::unique_ptr<const ChatTemplate>(std::make_unique<JinjaTemplate>(std::move(text), std::move(block)));
    } catch (const jinja::TemplateError& error) {
      return located(error, text, 0);
    }
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "chat template: not enough memory to parse it");
  }
}

Result<std::vector<RenderedSpan>> render_plain(const TemplateInput& input) {
  jinja::Text out;
  for (const ChatMessage& message : input.messages) {
    out.append(jinja::capitalize(jinja::Text(message.role, false)));
    out.append(": ", true);
    out.append(message.content, false);
    out.append("\n\n", true);
  }
  if (input.add_generation_prompt) out.append("Assistant:", true);
  return spans_of(out);
}

}  // namespace lcrun::text
