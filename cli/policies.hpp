// The table of attention policies as text (inspect --policies).
#pragma once

#include <string>

namespace lcrun::cli {

std::string policies_table();
std::string policies_json();

}  // namespace lcrun::cli
