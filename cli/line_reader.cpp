#include "cli/line_reader.hpp"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <iostream>

#include "cli/signals.hpp"
#include "src/text/unicode.hpp"

namespace lcrun::cli {
namespace {

constexpr int kHistoryLines = 500;
constexpr wchar_t kEscapeMark = L'\1';  // encloses what takes no room on the screen

// Bytes that a lead byte announces after itself.
int following_bytes(unsigned char lead) {
  if (lead < 0xC0) return 0;
  return lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
}

std::wstring wide(const std::string& utf8) {
  std::wstring out;
  for (size_t at = 0; at < utf8.size();) {
    const text::CodePoint point = text::decode_code_point(utf8, at);
    out += static_cast<wchar_t>(point.value);
    at += point.size;
  }
  return out;
}

void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::string(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

struct LineReader::Editor {
  explicit Editor(bool is_colored) : colored(is_colored) {
    use_utf8();
    edit = el_init("lcrun", stdin, stdout, stderr);
    history = history_winit();
    if (edit == nullptr || history == nullptr) return;
    HistEventW event;
    history_w(history, &event, H_SETSIZE, kHistoryLines);
    history_w(history, &event, H_SETUNIQUE, 1);
    el_wset(edit, EL_CLIENTDATA, this);
    el_wset(edit, EL_EDITOR, L"emacs");
    el_wset(edit, EL_HIST, history_w, history);
    el_wset(edit, EL_PROMPT_ESC, &Editor::prompt_of, kEscapeMark);
    el_wset(edit, EL_GETCFN, &Editor::next_character);
  }
  ~Editor() {
    if (history != nullptr) history_wend(history);
    if (edit != nullptr) el_end(edit);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  static Editor& of(EditLine* edit) {
    Editor* self = nullptr;
    el_wget(edit, EL_CLIENTDATA, &self);
    return *self;
  }
  static wchar_t* prompt_of(EditLine* edit) { return of(edit).prompt.data(); }

  // Our own, because libedit's tries a read again that a signal has ended.
  static int next_character(EditLine*, wchar_t* out) {
    std::string unit(1, '\0');
    if (const int got = read_byte(unit[0]); got != 1) return got;
    for (int more = following_bytes(static_cast<unsigned char>(unit[0])); more > 0; --more) {
      unit += '\0';
      if (const int got = read_byte(unit.back()); got != 1) return got;
    }
    *out = static_cast<wchar_t>(text::decode_code_point(unit, 0).value);
    return 1;
  }

  // 1, 0 at the end of input, -1 for an error or a Ctrl-C.
  static int read_byte(char& byte) {
    while (!interrupted()) {
      pollfd ends[] = {{STDIN_FILENO, POLLIN, 0}, {interrupt_fd(), POLLIN, 0}};  // poll() passes over one of -1
      if (poll(ends, 2, -1) < 0 && errno != EINTR) return -1;
      if (ends[0].revents == 0) continue;
      const ssize_t got = ::read(STDIN_FILENO, &byte, 1);
      if (got >= 0) return static_cast<int>(got);
      if (errno != EINTR) return -1;
    }
    return -1;
  }

  bool works() const { return edit != nullptr && history != nullptr; }

  EditLine* edit = nullptr;
  HistoryW* history = nullptr;
  std::wstring prompt;
  bool colored;
};

LineReader::LineReader(bool on_terminal, bool colored) {
  if (!on_terminal) return;
  editor_ = std::make_unique<Editor>(colored);
  if (!editor_->works()) editor_.reset();
}

LineReader::~LineReader() = default;

LineEvent LineReader::read(const char* prompt, std::string& line) {
  line.clear();
  if (editor_ == nullptr) {
    if (std::getline(std::cin, line)) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return LineEvent::kLine;
    }
    return interrupted() ? LineEvent::kInterrupted : LineEvent::kEnd;
  }
  const std::string mark(1, static_cast<char>(kEscapeMark));
  const std::string text = editor_->colored ? mark + "\033[32m" + mark + prompt + mark + "\033[0m" + mark : prompt;
  editor_->prompt = wide(text);
  int length = 0;
  const wchar_t* typed = el_wgets(editor_->edit, &length);
  if (interrupted()) return LineEvent::kInterrupted;
  if (typed == nullptr || length <= 0) return LineEvent::kEnd;
  for (int i = 0; i < length && typed[i] != L'\n' && typed[i] != L'\r'; ++i) {
    text::append_utf8(static_cast<uint32_t>(typed[i]), line);
  }
  return LineEvent::kLine;
}

void LineReader::remember(const std::string& line) {
  if (editor_ == nullptr || line.empty()) return;
  HistEventW event;
  history_w(editor_->history, &event, H_ENTER, wide(line).c_str());
}

}  // namespace lcrun::cli
