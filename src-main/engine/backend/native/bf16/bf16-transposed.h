// Operands of products over rows: matrices [rows, sides], transposed, as tiles.

#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "bf16-products.h"

#if ESPALIER_BF16

namespace {

// Rows that a task takes through the products by rows: a multiple of a tile's depth.
inline int64_t blockRows(int64_t rows) {
  constexpr int64_t most = 128;
  const int64_t threads = Pool::shared().threads();
  return std::min(most, roundUp((rows + threads - 1) / threads, tileDepth));
}

// A matrix [rows, sides] transposed into a left or right operand, `deep` tiles of 32 rows. `first`, the row to start at, is a multiple of
// 32. Rows after the last are zeros.
struct TransposedBf16 {
  Bf16* tiles;
  int64_t sides, rows, deep;

  Bf16* tile(int64_t side, int64_t first) const { return tiles + (side / tileSide * deep + first / tileDepth) * tileSize; }
  Bf16Rows left() const { return {{tiles, 0, 1, deep}}; }
  Bf16Panels right() const { return {{tiles, nullptr, roundUp(sides, panelSide) / tileSide, deep}}; }

  void putRight(int64_t side, int64_t first, const __m512i pairs[tileSide]) const {
    for (int pair = 0; pair < tileSide; pair++) _mm512_stream_si512(reinterpret_cast<__m512i*>(tile(side, first) + pair * tileDepth), pairs[pair]);
  }

  void putLeft(int64_t side, int64_t first, __m512i pairs[tileSide]) const {
    transposeWords(pairs);
    putRight(side, first, pairs);
  }

  // Packs rows [first, first + count) of x [rows, sides] as a left operand; `packNormed` packs them as a right one, after a norm.
  void packLeft(const float* x, int64_t first, int64_t count) const {
    forTiles(count, [&](int64_t row, int some, int64_t side, int width) {
      packTransposedRows(x + (first + row) * sides + side, sides, some, width, tile(side, first + row));
    });
  }

  void packNormed(const Norm& norm, const float* x, const float* weight, int64_t first, int64_t count) const {
    float* normed = scratch<8>(tileDepth * sides);
    for (int64_t row = 0; row < count; row += tileDepth) {
      const int some = static_cast<int>(std::min<int64_t>(tileDepth, count - row));
      for (int r = 0; r < some; r++) normalizeRow(norm, x + (first + row + r) * sides, weight, nullptr, normed + r * sides, sides);
      forTiles(some, [&](int64_t, int, int64_t side, int width) { packTransposedColumns(normed + side, sides, some, width, tile(side, first + row), false); });
    }
  }

 private:
  template <class Pack>
  void forTiles(int64_t count, const Pack& pack) const {
    for (int64_t row = 0; row < count; row += tileDepth)
      for (int64_t side = 0; side < roundUp(sides, panelSide); side += tileSide)
        pack(row, static_cast<int>(std::min<int64_t>(tileDepth, count - row)), side,
             static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(tileSide, sides - side))));
  }
};

// left' right: [left sides, right sides].
struct TransposedProduct {
  TransposedBf16 left, right;
  float* to;
};

// Runs several products together, so that no thread waits between them.
void multiplyTransposed(Units units, std::initializer_list<TransposedProduct> products) {
  constexpr int64_t block = 128;
  int tasks = 0;
  for (const TransposedProduct& product : products) tasks += static_cast<int>((product.left.sides + block - 1) / block);
  Pool::shared().run(tasks, [&](int task) {
    const TransposedProduct* product = products.begin();
    int64_t first = task * block;
    for (; first >= roundUp(product->left.sides, block); product++) first -= roundUp(product->left.sides, block);
    TileRegisters registers(units);
    const RowsOut out{nullptr, nullptr, 1, product->right.sides, product->to, product->left.sides};
    const Bf16Panels right = product->right.right();
    Bf16Rows left = product->left.left();
    left.tiles = product->left.tile(first, 0);
    forPanels(units, left, std::min(block, product->left.sides - first), right, 0, right.count(),
              [&](int64_t panel, int64_t row, int own, const float* c) { out.take(panel, first + row, own, c); });
  });
}

}  // namespace

#endif
