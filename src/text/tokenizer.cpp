// The parts common to all kinds, and the choice of the kind by tokenizer.ggml.model.
#include "src/text/tokenizer.hpp"

#include <new>

#include "src/base/format.hpp"
#include "src/text/tokenizer_base.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";

Result<std::unique_ptr<const Tokenizer>> load_kind(const ggufish::Metadata& meta) {
  LCRUN_ASSIGN(const std::string_view model, meta.get_string(kModelKey));
  if (model == "llama") return load_spm(meta);
  if (model == "gpt2" || model == "gemma4") return load_bpe(meta, model);
  if (model == "t5") return load_unigram(meta);
  if (model == "bert") return load_word_piece(meta);
  Error error =
      meta.fail(kModelKey, format("\"{}\"", model), "one of \"llama\", \"gpt2\", \"gemma4\", \"t5\", \"bert\"");
  error.code = Code::kUnsupported;
  return error;
}

}  // namespace

Result<std::unique_ptr<const Tokenizer>> Tokenizer::load(const ggufish::Metadata& meta) {
  try {
    return load_kind(meta);
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "{}: no memory for the vocabulary", kModelKey);
  }
}

Result<std::unique_ptr<const Tokenizer>> Tokenizer::load(const ggufish::ModelFile& file) { return load(file.meta()); }

void append_escaped(std::string_view text, std::string& out) {
  while (true) {
    const size_t blank = text.find(' ');
    out += text.substr(0, blank);
    if (blank == std::string_view::npos) return;
    out += kBlankMark;
    text.remove_prefix(blank + 1);
  }
}

std::string unescape_blanks(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (true) {
    const size_t mark = text.find(kBlankMark);
    out += text.substr(0, mark);
    if (mark == std::string_view::npos) return out;
    out += ' ';
    text.remove_prefix(mark + kBlankMark.size());
  }
}

TokenizerBase::TokenizerBase(Vocab vocab, std::string model_name, std::string pre_name)
    : vocab_(std::move(vocab)),
      model_name_(std::move(model_name)),
      pre_name_(std::move(pre_name)),
      all_special_(vocab_, kControlToken | kUserDefinedToken | kUnknownToken, 0),
      user_defined_(vocab_, kUserDefinedToken, kControlToken | kUnknownToken) {}

std::vector<Token> TokenizerBase::encode(std::string_view text, bool add_special, bool parse_special) const {
  std::vector<Fragment> fragments;
  const SpecialMatcher& matcher = parse_special ? all_special_ : user_defined_;
  matcher.split(vocab_, text, 0, text.size(), fragments);
  return encode_fragments(text, fragments, add_special);
}

std::vector<Fragment> TokenizerBase::fragments_of(std::span<const Span> spans, std::string& text) const {
  for (const Span& span : spans) text += span.text;
  std::vector<Fragment> fragments;
  size_t at = 0;
  for (const Span& span : spans) {
    const size_t first = fragments.size();
    (span.trusted ? all_special_ : user_defined_).split(vocab_, text, at, span.text.size(), fragments);
    at += span.text.size();
    // Text on both sides of the border is one text.
    if (first == 0 || first == fragments.size()) continue;
    Fragment& left = fragments[first - 1];
    const Fragment& right = fragments[first];
    if (left.token < 0 && right.token < 0 && left.begin + left.size == right.begin) {
      left.size += right.size;
      fragments.erase(fragments.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }
  return fragments;
}

std::vector<Token> TokenizerBase::encode_spans(std::span<const Span> spans, bool add_special) const {
  std::string text;
  const std::vector<Fragment> fragments = fragments_of(spans, text);
  return encode_fragments(text, fragments, add_special);
}

std::vector<Token> TokenizerBase::encode_continuation(std::span<const Span> spans) const {
  std::string text;
  const std::vector<Fragment> fragments = fragments_of(spans, text);
  std::vector<Token> out;
  append_fragments(text, fragments, false, out);
  return out;
}

std::vector<Token> TokenizerBase::encode_fragments(std::string_view text, std::span<const Fragment> fragments,
                                                   bool add_special) const {
  std::vector<Token> out;
  if (add_special && adds_bos()) out.push_back(vocab_.special().bos);
  append_fragments(text, fragments, true, out);
  if (add_special && adds_eos()) out.push_back(end_token());
  return out;
}

void TokenizerBase::append_fragments(std::string_view text, std::span<const Fragment> fragments, bool after_special,
                                     std::vector<Token>& out) const {
  for (const Fragment& part : fragments) {
    if (part.token >= 0) {
      out.push_back(part.token);
    } else {
      encode_text(text.substr(part.begin, part.size), after_special, out);
    }
    after_special = part.token >= 0;
  }
}

std::string TokenizerBase::piece(Token token, bool special) const {
  if (!vocab_.has(token)) return {};
  const TokenAttr attr = vocab_.attr(token);
  const std::string_view text = vocab_.text(token);
  if ((attr & (kControlToken | kUnknownToken)) != 0) return special ? std::string(text) : std::string();
  if ((attr & kUserDefinedToken) != 0) return std::string(text);
  if ((attr & kByteToken) != 0) return std::string(1, static_cast<char>(Vocab::byte_value(text)));
  return text_of(text);
}

std::string TokenizerBase::decode(std::span<const Token> tokens, bool special) const {
  std::string out;
  bool at_start = vocab_.adds_space_prefix;
  for (const Token token : tokens) {
    const std::string bytes = piece(token, special);
    const bool drop_blank = at_start && bytes.starts_with(' ');
    out.append(bytes, drop_blank ? 1 : 0);
    at_start = at_start && bytes.empty();
  }
  return out;
}

}  // namespace lcrun::text
