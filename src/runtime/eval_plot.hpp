// An evaluation as a picture: for each kind of attention a heat map of depth against length, and below them the curves
// of position bias, the score against the depth over all lengths.
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/canvas.hpp"
#include "src/runtime/eval_report.hpp"

namespace lcrun::runtime {

// Rows of a task with depths. Errors of Canvas::png().
Result<std::vector<std::byte>> eval_png(const EvalTask& task, std::span<const EvalRow> rows);

// Dark for 0, bright for 1: ordered by lightness, too, so that it can be read in grey.
Color heat_color(double share);

}  // namespace lcrun::runtime
