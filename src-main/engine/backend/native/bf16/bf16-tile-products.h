// Products of two panels of tiles, on matrix units or vectors.

#pragma once

#include <cstdint>
#include <cstring>

#include "bf16-tiles.h"

#if ESPALIER_BF16

namespace {

// Does nothing between the steps of a product.
struct Nothing {
  void operator()() const {}
};

#if ESPALIER_TILES
template <bool Both>
inline void loadRows(const Panel& a, int64_t at) {
  _tile_loadd(4, a.first + at, 64);
  if (Both) _tile_loadd(5, a.second + at, 64);
}

inline void loadColumns(const Panel& b, int64_t at) {
  _tile_loadd(6, b.first + at, 64);
  _tile_loadd(7, b.second + at, 64);
}

template <bool Both>
inline void multiplyLoaded() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (!Both) return;
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

template <bool Both, bool LeftSplit, bool RightSplit, class Between>
inline void multiplyTiles(const Operand& a, const Operand& b, int depth, const Between& between) {
  for (int64_t at = 0; at < static_cast<int64_t>(depth) * tileSize; at += tileSize) {
    loadRows<Both>(a.high, at);
    if (RightSplit) {
      loadColumns(b.low, at);
      multiplyLoaded<Both>();
    }
    loadColumns(b.high, at);
    multiplyLoaded<Both>();
    if (LeftSplit) {
      loadRows<Both>(a.low, at);
      multiplyLoaded<Both>();
    }
    between();
  }
}

template <bool Both, class Between>
inline void multiplyPanelTiles(const Operand& a, const Operand& b, int depth, float* c, int64_t stride, bool adds, const Between& between) {
  const int64_t bytes = stride * sizeof(float);
  float* below = c + tileSide * stride;
  if (adds) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + tileSide, bytes);
    if (Both) {
      _tile_loadd(2, below, bytes);
      _tile_loadd(3, below + tileSide, bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  if (b.split()) multiplyTiles<Both, true, true>(a, b, depth, between);
  else a.split() ? multiplyTiles<Both, true, false>(a, b, depth, between) : multiplyTiles<Both, false, false>(a, b, depth, between);
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + tileSide, bytes);
  if (!Both) return;
  _tile_stored(2, below, bytes);
  _tile_stored(3, below + tileSide, bytes);
}
#endif

template <int Rows>
inline void multiplyByVectors(const Bf16* a, Panel b, float* c, int64_t stride, int depth, bool adds) {
  __m512 sum[Rows][2];
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) sum[row][v] = adds ? _mm512_loadu_ps(c + row * stride + v * tileSide) : _mm512_setzero_ps();
  for (int k = 0; k < depth; k++) {
    for (int pair = 0; pair < tileSide; pair++) {
      const int64_t at = static_cast<int64_t>(k) * tileSize + pair * tileDepth;
      const __m512bh right[2] = {(__m512bh)_mm512_loadu_si512(b.first + at), (__m512bh)_mm512_loadu_si512(b.second + at)};
      for (int row = 0; row < Rows; row++) {
        int32_t both;
        std::memcpy(&both, a + static_cast<int64_t>(k) * tileSize + row * tileDepth + 2 * pair, sizeof both);
        const __m512bh left = (__m512bh)_mm512_set1_epi32(both);
        for (int v = 0; v < 2; v++) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], left, right[v]);
      }
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(c + row * stride + v * tileSide, sum[row][v]);
}

inline void multiplyPanelVectors(const Panel& a, const Panel& b, int depth, float* c, int64_t stride, int rows, bool adds) {
  for (int row = 0; row < rows; row += 8) {
    const Bf16* left = (row < tileSide ? a.first : a.second) + row % tileSide * tileDepth;
    if (rows - row >= 8) {
      multiplyByVectors<8>(left, b, c + row * stride, stride, depth, adds);
    } else {
      for (int r = 0; r < rows - row; r++) multiplyByVectors<1>(left + r * tileDepth, b, c + (row + r) * stride, stride, depth, adds);
    }
  }
}

// c [32, 32] (+)= a b. For split operands, omits only low times low. If `rows` is at most 16, only the first tile of rows is computed. If b
// is split, a must be split too. Matrix units work beside the rest of a core, so `between()` is called after each tile of depth: part of
// its work then takes no extra time.
template <class Between = Nothing>
inline void multiplyPanels(Units units, const Operand& a, const Operand& b, int depth, float* c, int64_t stride, int rows, bool adds, const Between& between = {}) {
#if ESPALIER_TILES
  if (units == matrixUnits)
    return rows > tileSide ? multiplyPanelTiles<true>(a, b, depth, c, stride, adds, between) : multiplyPanelTiles<false>(a, b, depth, c, stride, adds, between);
#endif
  multiplyPanelVectors(a.high, b.high, depth, c, stride, rows, adds);
  if (b.split()) multiplyPanelVectors(a.high, b.low, depth, c, stride, rows, true);
  if (a.split()) multiplyPanelVectors(a.low, b.high, depth, c, stride, rows, true);
}

}  // namespace

#endif
