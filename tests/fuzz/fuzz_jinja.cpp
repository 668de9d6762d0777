// Chat templates: any text must parse and render within the limits, or be refused; and a character that only the
// message holds must never come out as trusted.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "src/text/chat_template.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lcrun::text;
  constexpr std::string_view kMark = "\xEE\x84\xA3";  // U+E123
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return 0;
  TemplateInput input;
  input.messages = {{"user", "a\xEE\x84\xA3 b\n"}, {"assistant\xEE\x84\xA3", "\xEE\x84\xA3"}};
  input.extra_json = "{\"tools\": [{\"name\": \"\xEE\x84\xA3\", \"n\": [1, 2.5, null, {\"\xEE\x84\xA3\": true}]}]}";
  input.bos_token = "<s>";
  const auto spans = (*parsed)->render(input);
  if (!spans) return 0;
  const bool may_spell_mark =
      source.find('\\') != std::string_view::npos || source.find("\xEE") != std::string_view::npos;
  for (const RenderedSpan& span : *spans) {
    if (span.trusted && !may_spell_mark && span.text.find(kMark) != std::string::npos) std::abort();
  }
  return 0;
}
