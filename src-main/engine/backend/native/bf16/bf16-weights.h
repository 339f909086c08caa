// Stored weights and rows of the stream as tiles.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../threads.h"
#include "bf16-tiles.h"

#if ESPALIER_BF16

namespace {

// A stored weight [columns out, size in] as tiles. `low` holds the rounding remainder for float32-quality products; null if there is none.
struct PackedWeight {
  const Bf16 *high, *low;
  int64_t columnTiles, depth;

  const Bf16* tile(const Bf16* tiles, int64_t index) const { return tiles + index * depth * tileSize; }
};

// The right side of a product, by panels: a weight, or sixteen columns of one weight beside sixteen of another of the same shape.
struct Bf16Panels {
  PackedWeight weight;
  const PackedWeight* beside = nullptr;

  int64_t count() const { return beside ? weight.columnTiles : weight.columnTiles / 2; }
  int64_t depth() const { return weight.depth; }
  bool split() const { return weight.low != nullptr; }

  Operand operand(int64_t index) const { return {tiles(&PackedWeight::high, index), split() ? tiles(&PackedWeight::low, index) : Panel{}}; }

 private:
  Panel tiles(const Bf16* PackedWeight::*part, int64_t index) const {
    if (beside) return {weight.tile(weight.*part, index), beside->tile(beside->*part, index)};
    return {weight.tile(weight.*part, 2 * index), weight.tile(weight.*part, 2 * index + 1)};
  }
};

// Rows of a left operand as tiles. With three parts, the two small ones are multiplied first, so that the large sums are rounded less
// often.
struct Bf16Rows : RowParts {
  int rounds() const { return parts == 3 ? 2 : 1; }
  bool splitIn(int round) const { return parts > 1 && round == 0; }
  Operand operand(int64_t row, int round) const {
    const int first = parts == 3 && round == 0;
    return {panel(first, row), splitIn(round) ? panel(first + 1, row) : Panel{}};
  }

  Panel panel(int part, int64_t row) const {
    const Bf16* first = tiles + part * halves + row / tileSide * depth * tileSize;
    return {first, first + depth * tileSize};
  }

  template <class Read>
  void put(const Read& read, int64_t size, int64_t row) const {
    packRow(read, size, *this, row);
  }
};

// Halves that a thread keeps between calls.
template <int Purpose>
Bf16* bf16Scratch(size_t halves) {
  return reinterpret_cast<Bf16*>(scratch<Purpose>((halves + 1) / 2));
}

template <int Purpose = 5>
Bf16Rows bf16Rows(int64_t rows, int64_t depth, int parts) {
  const int64_t halves = roundUp(rows, panelSide) * depth * tileDepth;
  return {{bf16Scratch<Purpose>(halves * parts), halves, parts, depth}};
}

}  // namespace

#endif
