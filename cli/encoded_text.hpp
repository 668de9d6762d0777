// What `encode` leaves in a session's note for `ask`: how the text lies in the prompt, so that a question can follow.
//
// Thread rule: a value.
#pragma once

#include <string>

#include "cli/json_text.hpp"
#include "src/base/format.hpp"
#include "src/base/result.hpp"

namespace lcrun::cli {

struct EncodedText {
  bool use_chat = false;
  std::string chat_template;  // Jinja source, "" = plain paragraphs
  std::string system;
  std::string file;  // where the text was
  uint64_t text_bytes = 0;
  uint64_t prompt_bytes = 0;  // of them, those that lie in the prompt

  std::string note() const {
    Json json;
    json["encoded"] = 1;  // version of this note
    json["chat"] = use_chat;
    json["template"] = chat_template;
    json["system"] = system;
    json["file"] = file;
    json["text_bytes"] = text_bytes;
    json["prompt_bytes"] = prompt_bytes;
    return json_text(json);
  }
  // kBadSession when the note is not one of these; `path` for the message.
  static Result<EncodedText> from_note(const std::string& note, const std::string& path) {
    const Json json = Json::parse(note, nullptr, false);
    const auto is = [&](const char* key, auto check) { return json.contains(key) && (json.at(key).*check)(); };
    const bool good = json.is_object() && is("encoded", &Json::is_number_integer) && is("chat", &Json::is_boolean) &&
                      is("template", &Json::is_string) && is("system", &Json::is_string) &&
                      is("file", &Json::is_string) && is("text_bytes", &Json::is_number_unsigned) &&
                      json.at("encoded") == 1;
    if (!good) {
      return make_error(Code::kBadSession, "{}: found a session of a conversation, wanted one made by `lcrun encode`",
                        path);
    }
    EncodedText text;
    text.use_chat = json.at("chat").get<bool>();
    text.chat_template = json.at("template").get<std::string>();
    text.system = json.at("system").get<std::string>();
    text.file = json.at("file").get<std::string>();
    text.text_bytes = json.at("text_bytes").get<uint64_t>();
    // Files of before do not say.
    text.prompt_bytes =
        is("prompt_bytes", &Json::is_number_unsigned) ? json.at("prompt_bytes").get<uint64_t>() : text.text_bytes;
    return text;
  }
};

}  // namespace lcrun::cli
