// A small picture to draw on: rectangles, lines, capital letters; written as PNG by libpng.
//
// Everything is clipped to the picture. Thread rule: a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun::runtime {

struct Color {
  uint8_t red = 0, green = 0, blue = 0;
};

class Canvas {
 public:
  Canvas(int width, int height, Color background);

  int width() const { return width_; }
  int height() const { return height_; }
  Color at(int x, int y) const;

  void fill(int x, int y, int width, int height, Color color);
  // Two pixels wide.
  void line(int x0, int y0, int x1, int y1, Color color);
  // From the upper left corner. Letters are capitals; characters without a picture leave a gap.
  void text(int x, int y, std::string_view text, Color color);
  static int text_width(std::string_view text);
  static int text_height();

  // kNoMemory, kInternal: libpng's reason.
  Result<std::vector<std::byte>> png() const;

 private:
  int width_;
  int height_;
  std::vector<uint8_t> pixels_;  // [height][width][red, green, blue]
};

}  // namespace lcrun::runtime
