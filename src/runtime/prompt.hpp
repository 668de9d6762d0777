// How a prompt is laid out, and that the tokens of a long text never depend on the question that follows it.
//
// Chat: one user turn of text, blank line, question, inside the model's template. Plain (-no-cnv): text, blank line,
// question. The text and what follows it are tokenised apart, so that a text read once serves any question. What
// people and files say is never read as special tokens inside a template; a plain prompt is taken as written.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/text/chat_template.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

using model::Token;

struct PromptRequest {
  std::string text;           // the long text of -f, or ""
  std::string question;       // -p, or ""
  std::string answer_prefix;  // the reply begins with it
  std::string system;
};

class PromptLayout {
 public:
  // `template_source` "" with use_chat: plain "ROLE: content" paragraphs. Errors: those of ChatTemplate::parse.
  static Result<PromptLayout> create(std::shared_ptr<const text::Tokenizer> tokenizer, bool use_chat,
                                     const std::string& template_source);

  bool is_chat() const { return use_chat_; }
  // The prompt of one question; kInvalidArgument when there is nothing to read.
  Result<std::vector<Token>> single(const PromptRequest& request) const;
  // The same, and how many of its tokens are text_part(): where the question begins.
  struct Single {
    std::vector<Token> tokens;
    int64_t text_tokens = 0;
  };
  Result<Single> single_and_border(const PromptRequest& request) const;
  // Only the tokens of the part before the question: a prefix of single() for every question.
  Result<std::vector<Token>> text_part(const PromptRequest& request) const;

  // What text_part() has before the text, whatever the text: its tokens and those of the text make text_part(), where
  // the text begins with a word of its own. Empty where a template rewrites the message.
  Result<std::vector<Token>> frame(const std::string& system) const;
  // What single() has after text_part(), whatever the text: the question, the end of the turn, the answer's prefix.
  Result<std::vector<Token>> question_part(const std::string& question, const std::string& system,
                                           const std::string& answer_prefix) const;

  // The tokens that the last of `messages` (a user's) adds to a session that holds the earlier turns.
  // `rendered_before`: the text of the session so far (what the last call left here, and the reply); "" = a new
  // chat; brought up to date. When the template rewrites earlier turns, `from_start` is set and the tokens are the
  // whole prompt.
  struct Turn {
    std::vector<Token> tokens;
    bool from_start = false;
  };
  Result<Turn> next_turn(const std::vector<text::ChatMessage>& messages, std::string& rendered_before) const;

 private:
  struct Parts {
    std::vector<Token> before;  // all of the text
    std::vector<Token> after;   // from the end of the text on
  };
  Result<Parts> chat_parts(const PromptRequest& request) const;
  Result<Parts> parts_of(const PromptRequest& request) const;
  Parts plain_parts(const PromptRequest& request) const;
  Result<std::vector<text::RenderedSpan>> render(const std::vector<text::ChatMessage>& messages) const;
  std::vector<Token> encode(const std::vector<text::RenderedSpan>& spans, bool at_start) const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::shared_ptr<const text::ChatTemplate> template_;  // null: render_plain
  bool use_chat_ = false;
};

// What of a text that a question follows lies in the prompt: all but the line ends at its end.
std::string_view text_in_prompt(std::string_view text);

// "\n" and the like in -p (--escape).
std::string process_escapes(std::string_view text);

}  // namespace lcrun::runtime
