// What `lcrun --version` says.
#pragma once

#include <string>

namespace lcrun::cli {

std::string version_number();
// Short id of the commit it was built from, or "unknown".
std::string build_commit();
// Version, commit, build type, instruction sets built in and chosen, libraries.
std::string version_text();

}  // namespace lcrun::cli
