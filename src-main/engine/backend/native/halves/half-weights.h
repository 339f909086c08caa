// Stored weights and rows of the stream as tiles.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../threads.h"
#include "half-tiles.h"

#if ESPALIER_HALVES

namespace {

// A stored weight [columns out, size in] as tiles. `low` holds the rounding remainder for float32-quality products; null if there is none.
struct HalfWeight {
  const Half *high, *low;
  int64_t columnTiles, depth;

  const Half* tile(const Half* tiles, int64_t index) const { return tiles + index * depth * tileSize; }
};

// The right side of a product, by panels: a weight, or sixteen columns of one weight beside sixteen of another of the same shape.
struct HalfPanels {
  HalfWeight weight;
  const HalfWeight* beside = nullptr;

  int64_t count() const { return beside ? weight.columnTiles : weight.columnTiles / 2; }
  int64_t depth() const { return weight.depth; }
  bool split() const { return weight.low != nullptr; }

  Operand operand(int64_t index) const { return {tiles(&HalfWeight::high, index), split() ? tiles(&HalfWeight::low, index) : Panel{}}; }

 private:
  Panel tiles(const Half* HalfWeight::*part, int64_t index) const {
    if (beside) return {weight.tile(weight.*part, index), beside->tile(beside->*part, index)};
    return {weight.tile(weight.*part, 2 * index), weight.tile(weight.*part, 2 * index + 1)};
  }
};

// Rows of a left operand as tiles. With three parts, the two small ones are multiplied first, so that the large sums are rounded less
// often.
struct HalfRows : RowParts {
  int rounds() const { return parts == 3 ? 2 : 1; }
  bool splitIn(int round) const { return parts > 1 && round == 0; }
  Operand operand(int64_t row, int round) const {
    const int first = parts == 3 && round == 0;
    return {panel(first, row), splitIn(round) ? panel(first + 1, row) : Panel{}};
  }

  Panel panel(int part, int64_t row) const {
    const Half* first = tiles + part * halves + row / tileSide * depth * tileSize;
    return {first, first + depth * tileSize};
  }

  template <class Read>
  void put(const Read& read, int64_t size, int64_t row) const {
    packRow(read, size, *this, row);
  }
};

// Halves that a thread keeps between calls.
template <int Purpose>
Half* halfScratch(size_t halves) {
  return reinterpret_cast<Half*>(scratch<Purpose>((halves + 1) / 2));
}

template <int Purpose = 5>
HalfRows halfRows(int64_t rows, int64_t depth, int parts) {
  const int64_t halves = roundUp(rows, panelSide) * depth * tileDepth;
  return {{halfScratch<Purpose>(halves * parts), halves, parts, depth}};
}

}  // namespace

#endif
