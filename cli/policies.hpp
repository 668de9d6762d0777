// The table of attention policies as text (inspect --policies).
#pragma once

#include <string>

#include "src/attention/policy.hpp"

namespace lcrun::cli {

// `more`: rows of a file besides; may be null.
std::string policies_table(const attention::PolicyRows* more);
std::string policies_json(const attention::PolicyRows* more);

}  // namespace lcrun::cli
