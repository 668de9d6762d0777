#include "src/runtime/eval_plot.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace lcrun::runtime {
namespace {

constexpr Color kWhite = {255, 255, 255};
constexpr Color kInk = {40, 40, 40};
constexpr Color kGrid = {215, 215, 215};
// Curves: told apart by hue and by lightness.
constexpr Color kCurves[] = {{0, 90, 181}, {220, 50, 32}, {26, 133, 80}, {230, 159, 0}, {128, 70, 160}, {90, 90, 90}};

constexpr int kMargin = 16;
constexpr int kLabels = 64;  // width of the names of depths
constexpr int kCellWidth = 64;
constexpr int kCellHeight = 26;
constexpr int kLine = 22;  // height of a line of text
constexpr int kCurveHeight = 160;
constexpr int kLeastPlotWidth = 480;

struct Layout {
  std::vector<std::string> attentions;
  std::vector<int64_t> lengths;
  std::vector<int64_t> depths;

  int map_height() const { return 2 * kLine + static_cast<int>(depths.size()) * kCellHeight + kMargin; }
  int plot_width() const { return std::max(kLeastPlotWidth, static_cast<int>(lengths.size()) * kCellWidth); }
  int width() const { return 2 * kMargin + kLabels + plot_width(); }
  int height() const {
    const auto maps = static_cast<int>(attentions.size());
    return 2 * kMargin + kLine + maps * map_height() + (4 + maps) * kLine + kCurveHeight;
  }
};

Layout layout_of(std::span<const EvalRow> rows) {
  std::set<int64_t> lengths;
  std::set<int64_t> depths;
  for (const EvalRow& row : rows) {
    lengths.insert(row.length);
    for (const auto& [depth, cell] : row.by_depth) depths.insert(depth);
  }
  return {attentions_of(rows), {lengths.begin(), lengths.end()}, {depths.begin(), depths.end()}};
}

std::string whole_per_cent(double share) { return std::to_string(std::lround(share * 100)); }

void draw_map(Canvas& canvas, const Layout& layout, std::span<const EvalRow> rows, const std::string& attention,
              int top) {
  canvas.text(kMargin, top, attention, kInk);
  const int left = kMargin + kLabels;
  top += kLine;
  for (size_t y = 0; y < layout.depths.size(); ++y) {
    const int cell_top = top + static_cast<int>(y) * kCellHeight;
    canvas.text(kMargin, cell_top + 6, std::to_string(layout.depths[y]) + "%", kInk);
    for (size_t x = 0; x < layout.lengths.size(); ++x) {
      const auto row = std::find_if(rows.begin(), rows.end(), [&](const EvalRow& one) {
        return one.attention == attention && one.length == layout.lengths[x];
      });
      if (row == rows.end() || row->by_depth.find(layout.depths[y]) == row->by_depth.end()) continue;
      const double share = row->by_depth.at(layout.depths[y]).mean(0);
      const int cell_left = left + static_cast<int>(x) * kCellWidth;
      canvas.fill(cell_left, cell_top, kCellWidth - 2, kCellHeight - 2, heat_color(share));
      canvas.text(cell_left + 8, cell_top + 5, whole_per_cent(share), share > 0.6 ? kInk : kWhite);
    }
  }
  const int below = top + static_cast<int>(layout.depths.size()) * kCellHeight + 2;
  for (size_t x = 0; x < layout.lengths.size(); ++x) {
    canvas.text(left + static_cast<int>(x) * kCellWidth, below, length_text(layout.lengths[x]), kInk);
  }
}

void draw_curves(Canvas& canvas, const Layout& layout, std::span<const EvalRow> rows, int top) {
  canvas.text(kMargin, top, "position bias, all lengths", kInk);
  top += kLine;
  const int left = kMargin + kLabels;
  const int width = layout.plot_width() - 2;
  const auto x_of = [&](int64_t depth) { return left + static_cast<int>(depth * width / 100); };
  const auto y_of = [&](double share) { return top + static_cast<int>(std::lround((1 - share) * kCurveHeight)); };
  for (const double share : {0.0, 0.5, 1.0}) {
    canvas.fill(left, y_of(share), width, 1, kGrid);
    canvas.text(kMargin, y_of(share) - 6, whole_per_cent(share) + "%", kInk);
  }
  for (const int64_t depth : {0, 50, 100}) {
    const std::string label = std::to_string(depth) + "%";
    canvas.text(std::min(x_of(depth), left + width - Canvas::text_width(label)), top + kCurveHeight + 8, label, kInk);
  }
  int legend = top + kCurveHeight + 8 + kLine;
  for (size_t i = 0; i < layout.attentions.size(); ++i) {
    const Color color = kCurves[i % std::size(kCurves)];
    const auto bias = position_bias(rows, layout.attentions[i]);
    for (auto at = bias.begin(); at != bias.end(); ++at) {
      canvas.fill(x_of(at->first) - 3, y_of(at->second) - 3, 7, 7, color);
      const auto next = std::next(at);
      if (next == bias.end()) break;
      canvas.line(x_of(at->first), y_of(at->second), x_of(next->first), y_of(next->second), color);
    }
    canvas.fill(left, legend + 5, 24, 4, color);
    canvas.text(left + 32, legend, layout.attentions[i], kInk);
    legend += kLine;
  }
}

}  // namespace

Color heat_color(double share) {
  constexpr Color kStops[] = {{60, 20, 90}, {45, 120, 140}, {250, 225, 70}};
  const double at = std::clamp(share, 0.0, 1.0) * 2;
  const size_t stop = at < 1 ? 0 : 1;
  const double part = at - static_cast<double>(stop);
  const auto blend = [&](uint8_t from, uint8_t to) {
    return static_cast<uint8_t>(std::lround(static_cast<double>(from) + part * (static_cast<double>(to) - from)));
  };
  const Color& low = kStops[stop];
  const Color& high = kStops[stop + 1];
  return {blend(low.red, high.red), blend(low.green, high.green), blend(low.blue, high.blue)};
}

Result<std::vector<std::byte>> eval_png(const EvalTask& task, std::span<const EvalRow> rows) {
  const Layout layout = layout_of(rows);
  Canvas canvas(layout.width(), layout.height(), kWhite);
  canvas.text(kMargin, kMargin, std::string(task.name) + ": depth against tokens, per cent", kInk);
  int top = kMargin + kLine;
  for (const std::string& attention : layout.attentions) {
    draw_map(canvas, layout, rows, attention, top);
    top += layout.map_height();
  }
  draw_curves(canvas, layout, rows, top);
  return canvas.png();
}

}  // namespace lcrun::runtime
