// Products of columns over rows, as in weight gradients: a [N, R] and b [N, C] to a'b [R, C].

#pragma once

#include <algorithm>
#include <cstdint>

#include "bf16-products.h"

#if ESPALIER_BF16

namespace {

struct Bf16Correlation {
  Units units;
  const float* a;
  const float* b;
  int64_t rows, left, right;
  float* to;

  int64_t depth() const { return roundUp(rows, tileDepth) / tileDepth; }
  int rowsFrom(int64_t k) const { return static_cast<int>(std::min<int64_t>(tileDepth, rows - k * tileDepth)); }

  // b as a right operand, shared by all threads.
  PackedWeight packRight() const {
    const int64_t tiles = roundUp(right, panelSide) / tileSide, deep = depth();
    Bf16* packed = bf16Scratch<6>(tiles * deep * tileSize);
    Pool::shared().run(static_cast<int>(deep), [&](int k) {
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t column = tile * tileSide;
        const int width = static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(tileSide, right - column)));
        packTransposedColumns(b + k * tileDepth * right + column, right, rowsFrom(k), width, packed + (tile * deep + k) * tileSize, false);
      }
    });
    return {packed, nullptr, tiles, deep};
  }

  // Columns [first, first + count) of a as rows of a left operand.
  void packLeft(const Bf16Rows& packed, int64_t first, int64_t count) const {
    for (int64_t k = 0; k < packed.depth; k++) {
      for (int64_t row = 0; row < roundUp(count, panelSide); row += tileSide) {
        const int width = static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(tileSide, count - row)));
        Bf16* tile = packed.tiles + (row / tileSide * packed.depth + k) * tileSize;
        packTransposedRows(a + k * tileDepth * left + first + row, left, rowsFrom(k), width, tile);
      }
    }
  }

  void run() const {
    const Bf16Panels panels{packRight()};
    const RowsOut out{nullptr, nullptr, 1, right, to, left};
    Division(left, panels.count(), panels.depth() * tileDepth).run(left, panels.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t) {
      TileRegisters registers(units);
      const Bf16Rows own = bf16Rows(count, panels.depth(), 1);
      packLeft(own, first, count);
      forPanels(units, own, count, panels, from, last,
                [&](int64_t panel, int64_t row, int some, const float* c) { out.take(panel, first + row, some, c); });
    });
  }
};

}  // namespace

#endif
