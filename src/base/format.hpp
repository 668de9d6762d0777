// format("text {} more {}", a, b): the little formatting that messages need.
//
// std::format is absent from g++ 12. Arguments are streamed; "{}" takes the next one. Not for hot code.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

#include "src/base/result.hpp"

namespace lcrun {

namespace detail {
inline void format_rest(std::ostringstream& out, std::string_view text) { out << text; }

template <class First, class... Rest>
void format_rest(std::ostringstream& out, std::string_view text, const First& first, const Rest&... rest) {
  const size_t hole = text.find("{}");
  if (hole == std::string_view::npos) {
    out << text;
    return;
  }
  out << text.substr(0, hole) << first;
  format_rest(out, text.substr(hole + 2), rest...);
}
}  // namespace detail

template <class... Args>
std::string format(std::string_view text, const Args&... args) {
  std::ostringstream out;
  detail::format_rest(out, text, args...);
  return out.str();
}

// An Error with a formatted message.
template <class... Args>
Error make_error(Code code, std::string_view text, const Args&... args) {
  return Error{code, format(text, args...)};
}

}  // namespace lcrun
