#include "cli/chat.hpp"

#include <algorithm>
#include <cstdio>

#include "cli/background_reading.hpp"
#include "cli/json_text.hpp"
#include "cli/line_reader.hpp"
#include "cli/reply.hpp"
#include "cli/session_store.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/runtime/option_values.hpp"

namespace lcrun::cli {
namespace {

constexpr const char* kHelp =
    "/help        this list\n"
    "/context     which lines of the text the last answer was read from\n"
    "/save FILE   write the conversation so far to a session file\n"
    "/load FILE   go on from a session file\n"
    "/stats       speed of the last reply, and what the context holds\n"
    "/clear       forget the conversation\n"
    "/quit        leave (so does end of input)\n"
    "Ctrl-C stops a reply. A line that ends in \\ goes on in the next one.\n";

class Chat {
 public:
  explicit Chat(const ChatSetup& setup)
      : setup_(setup),
        out_(setup.context.out),
        on_terminal_(stdin_is_terminal() && stdout_is_terminal()),
        reader_(on_terminal_, on_terminal_ && use_color(setup.context.options().color)),
        reading_(setup.session, setup.text_tokens) {
    clear();
  }

  Status run(const std::string& first_turn) {
    LCRUN_ASSIGN(auto restored, resume_session(setup_.context, setup_.session));
    if (restored.has_value()) go_on_from(std::move(*restored));
    const Status status = talk(first_turn);
    const Status kept = keep();
    return status.has_value() ? kept : status;
  }

 private:
  Status talk(const std::string& first_turn) {
    if (on_terminal_ && has_text()) {
      std::fprintf(stderr, "Reading %zu tokens of text in the background; ask when you like.\n",
                   setup_.text_tokens.size());
    }
    if (on_terminal_) std::fputs("Type a message, or /help.\n", stderr);
    if (!first_turn.empty()) LCRUN_TRY(turn(first_turn));
    if (setup_.context.options().single_turn && !first_turn.empty()) return {};
    std::string line;
    while (true) {
      if (has_text()) reading_.start();
      if (!read_line(line)) break;
      if (line.empty()) continue;
      if (line[0] == '/') {
        if (!command(line)) break;
        continue;
      }
      LCRUN_TRY(turn(line));
      if (setup_.context.options().single_turn) break;
    }
    if (interrupted()) return make_error(Code::kCancelled, "interrupted");
    return {};
  }

  // False at the end of input, and when somebody insists on leaving.
  bool read_line(std::string& line) {
    line.clear();
    bool was_asked = false;
    std::string part;
    while (true) {
      const LineEvent event = reader_.read(line.empty() ? "> " : "  ", part);
      if (event == LineEvent::kEnd) return !line.empty();
      if (event == LineEvent::kInterrupted) {
        // One Ctrl-C takes the typed line back, two leave.
        if (terminated() || was_asked || !on_terminal_) return false;
        was_asked = true;
        line.clear();
        clear_interrupt();
        if (has_text()) reading_.start();
        std::fputs("\n[Ctrl-C again or /quit leaves]\n", stderr);
        continue;
      }
      reader_.remember(part);
      const bool goes_on = !part.empty() && part.back() == '\\';
      if (goes_on) part.back() = '\n';
      line += part;
      if (!goes_on) return true;
    }
  }

  bool has_text() const { return !setup_.text_tokens.empty(); }
  // Are the tokens of the conversation those of the text, and more?
  bool begins_with_text() const {
    const auto& text = setup_.text_tokens;
    return has_text() && tokens_.size() > text.size() && std::equal(text.begin(), text.end(), tokens_.begin());
  }

  // The turn's tokens behind those of the conversation. The first one has the text before it.
  Status lay_out(const std::string& question) {
    ask_from_ = static_cast<int64_t>(tokens_.size());
    const bool is_first = has_text() && tokens_.empty();
    messages_.push_back({"user", is_first ? setup_.text + "\n\n" + question : question});
    LCRUN_ASSIGN(const auto added, setup_.layout.next_turn(messages_, rendered_));
    if (is_first) {
      const std::string& system = setup_.context.options().system_prompt;
      LCRUN_ASSIGN(const auto part, setup_.layout.question_part(question, system, ""));
      tokens_ = setup_.text_tokens;
      ask_from_ = static_cast<int64_t>(tokens_.size());
      tokens_.insert(tokens_.end(), part.begin(), part.end());
      return {};
    }
    if (added.from_start) {
      tokens_.clear();
      ask_from_ = runtime::Session::kAskTail;
    }
    tokens_.insert(tokens_.end(), added.tokens.begin(), added.tokens.end());
    return {};
  }

  Result<runtime::Generated> reply_to_turn() {
    if (has_text()) LCRUN_TRY(reading_.wait());
    runtime::GenerateOptions generate = setup_.generate;
    if (ask_from_ > 0) generate.ask_from = ask_from_;
    if (!begins_with_text()) return stream_reply(setup_.context, setup_.engine, generate, setup_.session, tokens_);
    const auto n_text = static_cast<int64_t>(setup_.text_tokens.size());
    runtime::CitationWatch watch(setup_.session, n_text, static_cast<int64_t>(tokens_.size()));
    LCRUN_ASSIGN(auto reply, stream_reply(setup_.context, setup_.engine, generate, setup_.session, tokens_));
    const text::Tokenizer& tokenizer = *setup_.engine.tokenizer;
    if (passages_.empty()) passages_ = runtime::passages_of(tokenizer, setup_.text_tokens, setup_.text.size());
    read_for_answer_ = watch.cite(tokenizer, tokens_, passages_);
    return reply;
  }

  Status turn(const std::string& text) {
    is_kept_ = false;
    read_for_answer_.clear();
    LCRUN_TRY(lay_out(text));
    auto reply = reply_to_turn();
    if (!reply.has_value()) return after_failure(reply.error());
    LCRUN_TRY(out_.write("\n"));
    LCRUN_TRY(out_.flush());
    tokens_.insert(tokens_.end(), reply->tokens.begin(), reply->tokens.end());
    messages_.push_back({"assistant", reply->text});
    rendered_ += reply->text;
    last_ = reply->timings;
    if (reply->stop == runtime::StopReason::kInterrupted && on_terminal_) std::fputs("[stopped]\n", stderr);
    if (reply->stop == runtime::StopReason::kContext || reply->stop == runtime::StopReason::kMemory) {
      std::fputs("[the context is full: /clear or /quit]\n", stderr);
    }
    const Status kept = keep();
    if (!kept.has_value() && !on_terminal_) return kept;
    if (!kept.has_value()) std::fprintf(stderr, "[not saved: %s]\n", kept.error().message.c_str());
    clear_interrupt();
    return {};
  }

  // To the file of --session, after each turn: what was said before a crash is not lost.
  Status keep() {
    if (is_kept_) return {};
    LCRUN_TRY(keep_session(setup_.context, setup_.session, note()));
    is_kept_ = true;
    return {};
  }

  // A prompt that was stopped, or does not fit, is taken back; anything else ends the chat.
  Status after_failure(const Error& error) {
    const bool goes_on = (error.code == Code::kCancelled && !out_.reader_gone() && !terminated()) ||
                         error.code == Code::kInvalidArgument || error.code == Code::kNoMemory;
    if (!goes_on || !on_terminal_) return error;
    std::fprintf(stderr, "[%s]\n", error.message.c_str());
    messages_.pop_back();
    rendered_.clear();  // the next turn is laid out from the start; what the session holds of it is kept
    const bool is_new = std::none_of(messages_.begin(), messages_.end(),
                                     [](const text::ChatMessage& message) { return message.role == "assistant"; });
    if (is_new) tokens_.clear();
    clear_interrupt();
    return {};
  }

  // False for /quit.
  bool command(const std::string& line) {
    reading_.stop();  // the session is looked at; it goes on afterwards
    const size_t blank = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, blank);
    const std::string argument = blank < line.size() ? line.substr(blank + 1) : "";
    if (name == "/quit" || name == "/exit") return false;
    if (name == "/help")
      std::fputs(kHelp, stderr);
    else if (name == "/clear")
      clear();
    else if (name == "/stats")
      stats();
    else if (name == "/context")
      show_context();
    else if (name == "/save")
      report(save(argument), "saved");
    else if (name == "/load")
      report(load(argument), "loaded");
    else
      std::fprintf(stderr, "unknown command %s; /help lists them\n", name.c_str());
    return true;
  }

  void report(const Status& status, const char* done) {
    if (status.has_value())
      std::fprintf(stderr, "%s: %zu tokens\n", done, tokens_.size());
    else
      std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  }

  void show_context() const {
    if (read_for_answer_.empty()) std::fputs("There is no answer about a text yet.\n", stderr);
    for (const runtime::Citation& one : read_for_answer_) {
      std::fprintf(stderr, "%s, bytes %llu-%llu: %s\n", citation_lines({&one, 1}).c_str(),
                   static_cast<unsigned long long>(one.place.first_byte),
                   static_cast<unsigned long long>(one.place.end_byte), one.text.c_str());
    }
  }

  void clear() {
    if (!has_text()) setup_.session.clear();  // a text stays: it is part of any conversation
    read_for_answer_.clear();
    messages_.clear();
    tokens_.clear();
    rendered_.clear();
    const std::string& system = setup_.context.options().system_prompt;
    if (!system.empty()) messages_.push_back({"system", system});
  }

  void stats() {
    std::fprintf(stderr, "context: %zu of %lld tokens, cache %s\n", tokens_.size(),
                 static_cast<long long>(setup_.session.max_tokens()),
                 runtime::bytes_text(setup_.session.state_bytes()).c_str());
    std::fprintf(stderr, "last reply: read %lld tokens at %.1f/s (%lld were there), wrote %lld at %.1f/s\n",
                 static_cast<long long>(last_.prompt_tokens - last_.cached_tokens), last_.prefill_tps(),
                 static_cast<long long>(last_.cached_tokens), static_cast<long long>(last_.decoded_tokens),
                 last_.decode_tps());
  }

  std::string note() const {
    Json note;
    note["rendered"] = rendered_;
    note["tokens"] = tokens_;
    for (const auto& message : messages_) note["messages"].push_back({message.role, message.content});
    return json_text(note);
  }

  Status save(const std::string& path) {
    if (path.empty()) return make_error(Code::kInvalidArgument, "/save: wanted a file name");
    LCRUN_TRY(
        setup_.session.save(posix_file_system(), path, {.note = note(), .sync = sync_mode(setup_.context.options())}));
    return {};
  }

  Status load(const std::string& path) {
    if (path.empty()) return make_error(Code::kInvalidArgument, "/load: wanted a file name");
    LCRUN_ASSIGN(auto restored, setup_.session.load(posix_file_system(), path));
    if (!restored.damage.empty()) std::fprintf(stderr, "[%s; the rest is read again]\n", restored.damage.c_str());
    go_on_from(std::move(restored));
    return {};
  }

  void go_on_from(runtime::Session::Restored restored) {
    const Json note = Json::parse(restored.note, nullptr, false);
    clear_lists();
    if (note.is_object()) take_note(note);
    if (tokens_.empty()) tokens_ = std::move(restored.tokens);
  }

  void clear_lists() {
    messages_.clear();
    tokens_.clear();
    rendered_.clear();
  }

  // What save() wrote; anything else in the note is left alone.
  void take_note(const Json& note) {
    const auto rendered = note.find("rendered");
    if (rendered != note.end() && rendered->is_string()) rendered_ = rendered->get<std::string>();
    const auto tokens = note.find("tokens");
    if (tokens != note.end() && tokens->is_array()) {
      for (const Json& token : *tokens) {
        if (token.is_number_integer()) tokens_.push_back(token.get<runtime::Token>());
      }
    }
    const auto messages = note.find("messages");
    if (messages == note.end() || !messages->is_array()) return;
    for (const Json& message : *messages) {
      if (message.is_array() && message.size() == 2 && message[0].is_string() && message[1].is_string()) {
        messages_.push_back({message[0].get<std::string>(), message[1].get<std::string>()});
      }
    }
  }

  const ChatSetup& setup_;
  Output& out_;
  bool on_terminal_;
  LineReader reader_;
  std::vector<text::ChatMessage> messages_;
  std::vector<runtime::Token> tokens_;  // of the conversation; the session holds a prefix of them
  std::string rendered_;                // their text, as the template writes it
  runtime::Timings last_;
  bool is_kept_ = true;   // in the file of --session
  int64_t ask_from_ = 0;  // where the last question begins
  BackgroundReading reading_;
  std::vector<runtime::PromptPassage> passages_;  // of the text, once they are needed
  std::vector<runtime::Citation> read_for_answer_;
};

}  // namespace

Status chat(const ChatSetup& setup, const std::string& first_turn) { return Chat(setup).run(first_turn); }

}  // namespace lcrun::cli
