// JSON as text: objects keep the order in which they were built, and any byte string can be printed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace lcrun::cli {

using Json = nlohmann::ordered_json;

// One line (or `indent` blanks a level); bytes that are not UTF-8 become U+FFFD.
inline std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lcrun::cli
