// Products of few rows with a stored weight. Reading the weight dominates the time, so each entry is read once for all rows.

#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "bf16/bf16-weights.h"
#include "stored-entries.h"
#include "stored-groups.h"
#include "threads.h"
#include "vectors.h"

namespace {

// Rows computed at once, in registers.
constexpr int rowsAtOnce = lanes == 8 ? 3 : 6;
// Rows that share one read of the weight.
constexpr int mostFewRows = 16;
constexpr int panelColumns = 32;
constexpr int piecesPerThread = 3;
// A piece must have this many entries for another thread to be worthwhile.
constexpr int64_t leastEntries = 1 << 15;

inline float treeSum(Vector vector) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)vector);
#else
  float parts[lanes];
  store(parts, vector);
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) parts[i] += parts[i + width];
  return parts[0];
#endif
}

// Dot products of `Rows` rows of x with `Columns` rows of a weight, each `depth` long, to to[row * stride + column]. With several rows
// there is time to prefetch the next weight rows. With a single row, reading takes all the time anyway.
template <int Rows, int Columns, class Entry>
void dotTile(const float* x, int64_t strideX, const Entry* weight, int64_t depth, float* to, int64_t stride) {
  const int64_t whole = depth / lanes * lanes;
  Vector sum[Rows][Columns];
  for (int row = 0; row < Rows; row++)
    for (int column = 0; column < Columns; column++) sum[row][column] = all(0);
  for (int64_t i = 0; i < whole; i += lanes) {
    Vector right[Columns];
    for (int column = 0; column < Columns; column++) {
      right[column] = load(weight + column * depth + i);
      if (Rows > 1) __builtin_prefetch(weight + (column + Columns) * depth + i);
    }
    for (int row = 0; row < Rows; row++) {
      const Vector left = load(x + row * strideX + i);
      for (int column = 0; column < Columns; column++) sum[row][column] = multiplyAdd(left, right[column], sum[row][column]);
    }
  }
  for (int row = 0; row < Rows; row++) {
    for (int column = 0; column < Columns; column++) {
      float total = treeSum(sum[row][column]);
      for (int64_t i = whole; i < depth; i++) total += x[row * strideX + i] * valueOf(weight[column * depth + i]);
      to[row * stride + column] = total;
    }
  }
}

template <int Columns, int Rows = rowsAtOnce, class Entry>
void dotRows(const float* x, int64_t strideX, int64_t rows, const Entry* weight, int64_t depth, float* to, int64_t stride) {
  int64_t row = 0;
  for (; row + Rows <= rows; row += Rows) dotTile<Rows, Columns>(x + row * strideX, strideX, weight, depth, to + row * stride, stride);
  if constexpr (Rows > 1) {
    if (row < rows) dotRows<Columns, Rows - 1>(x + row * strideX, strideX, rows - row, weight, depth, to + row * stride, stride);
  }
}

// The same for four rows of a weight in groups, to to[row * stride] and the three entries after it.
template <int Rows, class Groups>
void dotGroups(const float* x, int64_t strideX, const Groups* groups, int64_t depth, float* to, int64_t stride) {
  Vector sum[Rows][4];
  for (int row = 0; row < Rows; row++)
    for (int column = 0; column < 4; column++) sum[row][column] = all(0);
  // Five rows took a third less time with two groups per round.
#pragma GCC unroll 2
  for (int64_t i = 0; i < depth; i += Groups::columns, groups++) {
    for (int first = 0; first < Groups::columns; first += lanes) {
      for (int column = 0; column < 4; column++) {
        const Vector right = groups->values(column, first);
        for (int row = 0; row < Rows; row++) sum[row][column] = multiplyAdd(load(x + row * strideX + i + first), right, sum[row][column]);
      }
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int column = 0; column < 4; column++) to[row * stride + column] = treeSum(sum[row][column]);
}

template <int Rows = rowsAtOnce, class Groups>
void dotGroupRows(const float* x, int64_t strideX, int64_t rows, const Groups* groups, int64_t depth, float* to, int64_t stride) {
  int64_t row = 0;
  for (; row + Rows <= rows; row += Rows) dotGroups<Rows>(x + row * strideX, strideX, groups, depth, to + row * stride, stride);
  if constexpr (Rows > 1) {
    if (row < rows) dotGroupRows<Rows - 1>(x + row * strideX, strideX, rows - row, groups, depth, to + row * stride, stride);
  }
}

#if ESPALIER_BF16

// The same for 32 columns of a weight stored as tiles of halves. Entries are used as stored; products and sums are float32. x is
// zero-padded to a whole tile.
template <int Rows>
void dotPanel(const float* x, int64_t strideX, Panel weight, int64_t depth, float* to) {
  __m512 even[Rows][2], odd[Rows][2];
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) even[row][v] = odd[row][v] = _mm512_setzero_ps();
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  for (int64_t k = 0; k < depth; k++) {
    for (int pair = 0; pair < tileSide; pair++) {
      const int64_t at = k * tileSize + pair * tileDepth;
      const __m512i words[2] = {_mm512_loadu_si512(weight.first + at), _mm512_loadu_si512(weight.second + at)};
      __m512 low[2], up[2];
      for (int v = 0; v < 2; v++) {
        low[v] = _mm512_castsi512_ps(_mm512_slli_epi32(words[v], 16));
        up[v] = _mm512_castsi512_ps(_mm512_and_si512(words[v], high));
      }
      for (int row = 0; row < Rows; row++) {
        const float* left = x + row * strideX + k * tileDepth + 2 * pair;
        const __m512 first = _mm512_set1_ps(left[0]), second = _mm512_set1_ps(left[1]);
        for (int v = 0; v < 2; v++) {
          even[row][v] = _mm512_fmadd_ps(first, low[v], even[row][v]);
          odd[row][v] = _mm512_fmadd_ps(second, up[v], odd[row][v]);
        }
      }
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(to + row * panelColumns + v * tileSide, _mm512_add_ps(even[row][v], odd[row][v]));
}

template <int Rows = 4>
void dotPanelRows(const float* x, int64_t strideX, int64_t rows, Panel weight, int64_t depth, float* to) {
  int64_t row = 0;
  for (; row + Rows <= rows; row += Rows) dotPanel<Rows>(x + row * strideX, strideX, weight, depth, to + row * panelColumns);
  if constexpr (Rows > 1) {
    if (row < rows) dotPanelRows<Rows - 1>(x + row * strideX, strideX, rows - row, weight, depth, to + row * panelColumns);
  }
}

#endif

// A stored weight: rows in float32, 16 bits or groups, with bit-identical products and sums, or tiles of halves.
struct StoredWeight {
  const float* floats = nullptr;
  // In the order of `interleave`.
  const BrainFloat* brainFloats = nullptr;
#if ESPALIER_FLOAT16
  const Float16* float16 = nullptr;
#endif
  GroupForm form{};
  const void* groups = nullptr;
#if ESPALIER_BF16
  PackedWeight halves{};
#endif
};

// x [rows, depth] times a stored weight of `columns` rows, plus bias. Row r goes to row `place[r]` of the result, or to r without places.
// With `adds`, the result is multiplied by `scale` and added to the existing values.
struct FewRows {
  const float* x;
  int64_t stride, rows, depth;
  StoredWeight weight;
  int64_t columns;
  const float* bias;
  float* to;
  int64_t toStride;
  const int32_t* place = nullptr;
  bool adds = false;
  float scale = 1;

  void run() const {
    inPieces(columns, piece(), [this](int64_t first, int64_t last) { columnsOf(first, last); });
  }

  // Columns per task: few pieces for each thread, because memory serves long streams faster. Whole panels, so that neuron functions have
  // the same vectors in any piece.
  int64_t piece() const {
    const int64_t pieces = std::min<int64_t>(piecesPerThread * Pool::shared().threads(), 1 + columns * depth / leastEntries);
    return roundUp((columns + pieces - 1) / pieces, panelColumns);
  }

  // If the weight is stored in panels, `first` must be a multiple of a panel's columns.
  void columnsOf(int64_t first, int64_t last) const {
    for (int64_t row = 0; row < rows; row += mostFewRows) rowsOf(row, std::min<int64_t>(mostFewRows, rows - row), first, last);
  }

 private:
  void rowsOf(int64_t row, int64_t count, int64_t first, int64_t last) const {
    float part[mostFewRows * panelColumns];
    const float* from = x + row * stride;
    if (weight.floats) return rowsOfEntries(weight.floats, from, part, row, count, first, last);
    if (weight.brainFloats) return interleavedRows(weight.brainFloats, from, part, row, count, first, last);
#if ESPALIER_FLOAT16
    if (weight.float16) return interleavedRows(weight.float16, from, part, row, count, first, last);
#endif
    if (weight.groups)
      return withForm(weight.form, [&](auto one) {
        rowsOfGroups(static_cast<const decltype(one)*>(weight.groups), from, part, row, count, first, last);
      });
#if ESPALIER_BF16
    const Bf16Panels panels{weight.halves};
    for (int64_t column = first; column < last; column += panelColumns) {
      dotPanelRows<>(from, stride, count, panels.operand(column / panelColumns).high, weight.halves.depth, part);
      take(part, panelColumns, row, count, column, std::min<int64_t>(panelColumns, last - column));
    }
#endif
  }

  template <class Entry>
  void rowsOfEntries(const Entry* entries, const float* from, float* part, int64_t row, int64_t count, int64_t first, int64_t last) const {
    int64_t column = first;
    // A single row reads the weight as one stream, which memory serves faster than several.
    for (; count > 1 && column + 4 <= last; column += 4) {
      dotRows<4>(from, stride, count, entries + column * depth, depth, part, 4);
      take(part, 4, row, count, column, 4);
    }
    for (; column < last; column++) {
      dotRows<1>(from, stride, count, entries + column * depth, depth, part, 1);
      take(part, 1, row, count, column, 1);
    }
  }

  // Pieces begin at a multiple of four.
  template <class Entry>
  void interleavedRows(const Entry* entries, const float* from, float* part, int64_t row, int64_t count, int64_t first, int64_t last) const {
    const int64_t whole = std::min(last, columns / 4 * 4);
    rowsOfGroups(reinterpret_cast<const FourEntries<Entry>*>(entries), from, part, row, count, first, whole);
    rowsOfEntries(entries, from, part, row, count, whole, last);
  }

  // Only weights with a multiple of four rows are stored in groups, and pieces begin at one.
  template <class Groups>
  void rowsOfGroups(const Groups* groups, const float* from, float* part, int64_t row, int64_t count, int64_t first, int64_t last) const {
    for (int64_t column = first; column < last; column += 4) {
      dotGroupRows<>(from, stride, count, groups + column / 4 * (depth / Groups::columns), depth, part, 4);
      take(part, 4, row, count, column, 4);
    }
  }

  void take(const float* part, int64_t partStride, int64_t row, int64_t count, int64_t column, int64_t width) const {
    for (int64_t r = 0; r < count; r++) {
      float* out = to + (place ? place[row + r] : row + r) * toStride + column;
      for (int64_t i = 0; i < width; i++) {
        const float value = part[r * partStride + i] + (bias ? bias[column + i] : 0);
        out[i] = adds ? out[i] + value * scale : value;
      }
    }
  }
};

}  // namespace
