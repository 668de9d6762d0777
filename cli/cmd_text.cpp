// lcrun tokenize, lcrun detokenize: text to ids and back, on standard input and output.
#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "src/base/format.hpp"

namespace lcrun::cli {
namespace {

using runtime::Token;

// {"tokens":[...]} or a bare list.
Result<std::vector<Token>> parse_ids(const std::string& text, int64_t n_vocab) {
  const auto wrong = [](const std::string& found) {
    return make_error(Code::kInvalidArgument,
                      "standard input: found {}, wanted {\"tokens\":[1,2,3]} or a list of token ids", found);
  };
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return wrong("something that is not JSON");
  const Json* list = &json;
  if (json.is_object()) {
    if (!json.contains("tokens")) return wrong("an object without \"tokens\"");
    list = &json.at("tokens");
  }
  if (!list->is_array()) return wrong(format("a JSON {}", list->type_name()));
  std::vector<Token> tokens;
  for (const Json& item : *list) {
    const bool fits = item.is_number_integer() && item.get<int64_t>() >= 0 && item.get<int64_t>() < n_vocab &&
                      !(item.is_number_unsigned() && item.get<uint64_t>() >= static_cast<uint64_t>(n_vocab));
    if (!fits) {
      return make_error(Code::kInvalidArgument, "token id: found {}, wanted 0 to {}", json_text(item), n_vocab - 1);
    }
    tokens.push_back(static_cast<Token>(item.get<int64_t>()));
  }
  return tokens;
}

}  // namespace

Status tokenize_command(Context& context) {
  LCRUN_ASSIGN(const auto engine, open_engine(context, true));
  LCRUN_ASSIGN(const std::string text, read_input("-"));
  const auto& options = context.options();
  const auto tokens = engine.tokenizer->encode(text, !options.no_bos, !options.no_parse_special);
  std::string line = "{\"tokens\":[";
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i != 0) line += ',';
    line += std::to_string(tokens[i]);
  }
  return context.out.write(line + "]}\n");
}

Status detokenize_command(Context& context) {
  LCRUN_ASSIGN(const auto engine, open_engine(context, true));
  LCRUN_ASSIGN(const std::string text, read_input("-"));
  LCRUN_ASSIGN(const auto tokens, parse_ids(text, engine.tokenizer->vocab_size()));
  return context.out.write(engine.tokenizer->decode(tokens, true));
}

}  // namespace lcrun::cli
