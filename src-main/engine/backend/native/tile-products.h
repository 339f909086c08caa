// Products of small matrices, one tile at a time in registers.

#pragma once

#include <algorithm>

#include "vectors.h"

namespace {

// c [Rows, Vectors * lanes] (+)= a [Rows, depth] b [depth, Vectors * lanes], all in registers. With `Transposed`, a is stored as [depth, Rows].
template <int Rows, int Vectors, bool Transposed>
inline void multiplyTile(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int depth, bool adds) {
  Vector sum[Rows][Vectors];
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < Vectors; v++) sum[row][v] = adds ? load(c + row * strideC + v * lanes) : all(0);
  for (int k = 0; k < depth; k++) {
    Vector right[Vectors];
    for (int v = 0; v < Vectors; v++) right[v] = load(b + k * strideB + v * lanes);
    for (int row = 0; row < Rows; row++) {
      const Vector left = all(Transposed ? a[k * strideA + row] : a[row * strideA + k]);
      for (int v = 0; v < Vectors; v++) sum[row][v] += left * right[v];
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < Vectors; v++) store(c + row * strideC + v * lanes, sum[row][v]);
}

template <int Vectors, bool Transposed>
void multiplyRows(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int rows, int depth, bool adds) {
  for (int row = 0; row < rows; row += tileRows)
    multiplyTile<tileRows, Vectors, Transposed>(a + (Transposed ? row : row * strideA), strideA, b, strideB, c + row * strideC, strideC, depth, adds);
}

// The same for one tile of at most `tileColumns` columns; `rows` is a multiple of `tileRows`.
template <bool Transposed = false>
void multiplyPanel(const float* a, int strideA, const float* b, int strideB, float* c, int strideC, int rows, int depth, int columns,
                   bool adds) {
  switch ((columns + lanes - 1) / lanes) {
    case 1: return multiplyRows<1, Transposed>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    case 2: return multiplyRows<2, Transposed>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    case 3: return multiplyRows<std::min(3, tileVectors), Transposed>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
    default: return multiplyRows<tileVectors, Transposed>(a, strideA, b, strideB, c, strideC, rows, depth, adds);
  }
}

}  // namespace
