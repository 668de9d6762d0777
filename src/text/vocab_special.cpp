// What tokens mean beyond their type: which end a reply, and which eat white space. Files say this in part only;
// the rest goes by well-known names, as in the reference runtime.
#include <algorithm>
#include <initializer_list>
#include <span>

#include "src/text/vocab.hpp"

namespace lcrun::text {

namespace {

// Ordered by preference: the first that is in the vocabulary is the end of a turn.
constexpr std::string_view kEndOfTurn[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",         "<|endoftext|>",     "<|end_of_text|>",
    "<EOT>",      "_<EOT>",     "[EOT]",   "<｜end▁of▁sentence｜>", "<end_of_utterance>"};
constexpr std::string_view kEndOfMessage[] = {"<|eom_id|>"};
constexpr std::string_view kEndNames[] = {"<|eot_id|>",
                                          "<|im_end|>",
                                          "<|end|>",
                                          "<|return|>",
                                          "<|call|>",
                                          "<|flush|>",
                                          "<|calls|>",
                                          "<end_of_turn>",
                                          "<|endoftext|>",
                                          "</s>",
                                          "<|eom_id|>",
                                          "<EOT>",
                                          "_<EOT>",
                                          "[EOT]",
                                          "[EOS]",
                                          "<|end_of_text|>",
                                          "<end_of_utterance>",
                                          "<eos>",
                                          "<turn|>",
                                          "<|tool_response>",
                                          "<｜end▁of▁sentence｜>",
                                          "[e~["};

constexpr std::string_view kFimPrefix[] = {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>",    "<｜fim▁begin｜>",
                                           "<PRE>",          "▁<PRE>",       "<|code_prefix|>", "<|prefix|>"};
constexpr std::string_view kFimSuffix[] = {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",    "<｜fim▁hole｜>",
                                           "<SUF>",          "▁<SUF>",       "<|code_suffix|>", "<|suffix|>"};
constexpr std::string_view kFimMiddle[] = {"<|fim_middle|>", "<fim-middle>", "<fim_middle>",    "<｜fim▁end｜>",
                                           "<MID>",          "▁<MID>",       "<|code_middle|>", "<|middle|>"};
constexpr std::string_view kFimPad[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
constexpr std::string_view kFimRepo[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
constexpr std::string_view kFimFile[] = {"<|file_sep|>"};

// A role that a token may have: by the file's key, else by the first name found.
struct Role {
  std::string_view key;
  std::string_view old_key;
  std::span<const std::string_view> names;
  bool ends_generation;
};
constexpr Role kRoles[] = {
    {"tokenizer.ggml.eom_token_id", "", kEndOfMessage, true},
    {"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id", kFimPrefix, false},
    {"tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id", kFimSuffix, false},
    {"tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id", kFimMiddle, false},
    {"tokenizer.ggml.fim_pad_token_id", "", kFimPad, true},
    {"tokenizer.ggml.fim_rep_token_id", "", kFimRepo, true},
    {"tokenizer.ggml.fim_sep_token_id", "", kFimFile, true},
};

Token first_of(const Vocab& vocab, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    if (const Token id = vocab.find(name); id >= 0) return id;
  }
  return -1;
}

bool contains_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

}  // namespace

void Vocab::mark_end_tokens(const ggufish::Metadata& meta) {
  ends_generation_.assign(attrs_.size(), false);
  const auto mark = [&](Token id) {
    if (id >= 0) ends_generation_[static_cast<size_t>(id)] = true;
  };
  const auto make_control = [&](Token id) {
    if (id >= 0) set_attr(id, static_cast<TokenAttr>(attr(id) | kControlToken));
  };
  if (special_.eot < 0) {
    special_.eot = first_of(*this, kEndOfTurn);
    make_control(special_.eot);
  }
  for (const Role& role : kRoles) {
    Token id = special_id(meta, role.key, -1);
    if (!role.old_key.empty()) id = special_id(meta, role.old_key, id);
    if (id < 0) {
      id = first_of(*this, role.names);
      make_control(id);
    }
    if (role.ends_generation) mark(id);
  }
  for (const std::string_view name : kEndNames) {
    const Token id = find(name);
    mark(id);
    make_control(id);
  }
  mark(special_.eos);
  mark(special_.eot);
  unmark_named_exceptions();
}

void Vocab::unmark_named_exceptions() {
  const auto ends = [&](std::string_view name) {
    const Token id = find(name);
    return id >= 0 && ends_generation(id);
  };
  const auto unmark = [&](std::string_view name, TokenAttr attr) {
    const Token id = find(name);
    ends_generation_[static_cast<size_t>(id)] = false;
    set_attr(id, attr);
  };
  // Channel markers of o200k_harmony belong to the reply.
  for (const std::string_view name : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}) {
    if (const Token id = find(name); id >= 0) set_attr(id, kUserDefinedToken);
  }
  // There and in solar-open "<|end|>" ends a part of a reply only.
  const bool calls = ends("<|call|>") || ends("<|calls|>");
  if (ends("<|end|>") && calls && (ends("<|return|>") || ends("<|flush|>"))) unmark("<|end|>", kUserDefinedToken);
  // A strike-through tag in vocabularies that end with other tokens.
  if (ends("</s>") && (ends("<|tool_response>") || ends("<|plamo:eos|>"))) unmark("</s>", kNormalToken);
}

Status Vocab::apply_strip_rules(const ggufish::Metadata& meta) {
  // Files do not carry these attributes: they go by the names of the models that need them.
  const auto text_or_empty = [&](std::string_view key) -> Result<std::string> {
    if (!meta.has(key)) return std::string();
    LCRUN_ASSIGN(const std::string_view value, meta.get_string(key));
    return std::string(value);
  };
  LCRUN_ASSIGN(std::string name, text_or_empty("general.name"));
  LCRUN_ASSIGN(const std::string pre, text_or_empty("tokenizer.ggml.pre"));
  LCRUN_ASSIGN(const std::string arch, text_or_empty("general.architecture"));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  const auto add = [&](Token id, TokenAttr bit) {
    if (id >= 0) set_attr(id, static_cast<TokenAttr>(attr(id) | bit));
  };
  if (contains_any(pre, {"jina-v2-de", "jina-v2-es", "jina-v2-code"}) ||
      contains_any(arch, {"nomic-bert-moe", "jina-bert-v3"})) {
    add(find("<mask>"), kStripLeft);
  } else if (contains_any(name, {"phi-3", "phi3"})) {
    for (Token id = 0; id < size(); ++id) {
      if ((attr(id) & (kControlToken | kUserDefinedToken | kUnknownToken)) == 0) continue;
      const std::string_view token = text(id);
      if (token != "<unk>" && token != "<s>" && token != "<|endoftext|>") add(id, kStripRight);
    }
    add(find("</s>"), kStripRight);
  } else if (contains_any(name, {"modern-bert"})) {
    add(find("[MASK]"), kStripLeft);
  }
  return {};
}

}  // namespace lcrun::text
