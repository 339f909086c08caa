// Sums of exponentials of logits, without storing the logits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "bf16-exponent.h"
#include "bf16-products.h"

#if ESPALIER_BF16

namespace {

// Passes hidden states [rows, size] through the head. Writes for each row a reference, near its largest logit, and the sum of exponentials
// relative to it.
struct Bf16Exponents {
  Units units;
  RowsIn in;
  int64_t rows, columns;
  Bf16Panels head;
  int parts;
  const float* bias;
  float cap;

  void addPanels(const Bf16Rows& a, int64_t count, int64_t from, int64_t to, ExponentSums* sums) const {
    forPanels(units, a, count, head, from, to, [&](int64_t panel, int64_t row, int own, const float* c) {
      for (int half = 0; half < 2; half++) {
        const int64_t column = panel * panelSide + half * tileSide;
        const int width = static_cast<int>(std::min<int64_t>(tileSide, columns - column));
        if (width <= 0) return;
        const __m512 shift = bias ? loadSome(bias + column, width) : _mm512_setzero_ps();
        for (int r = 0; r < own; r++) {
          const __m512 logits = capped(_mm512_add_ps(_mm512_load_ps(c + r * panelSide + half * tileSide), shift), cap);
          sums[row + r].add(_mm512_mask_mov_ps(_mm512_set1_ps(-std::numeric_limits<float>::infinity()), firstLanes(width), logits));
        }
      }
    });
  }

  void run(float* to) const {
    const Division division(rows, head.count(), parts * head.depth() * tileDepth);
    std::vector<ExponentTotal> totals(rows * division.pieces);
    division.run(rows, head.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t piece) {
      TileRegisters registers(units);
      const Bf16Rows a = bf16Rows(count, head.depth(), parts);
      in.pack(a, first, count);
      ExponentSums* sums = reinterpret_cast<ExponentSums*>(scratch<6>(count * sizeof(ExponentSums) / sizeof(float)));
      std::fill(sums, sums + count, ExponentSums{});
      addPanels(a, count, from, last, sums);
      for (int64_t row = 0; row < count; row++) totals[(first + row) * division.pieces + piece].add(sums[row]);
    });
    for (int64_t row = 0; row < rows; row++) {
      ExponentTotal all;
      for (int64_t piece = 0; piece < division.pieces; piece++) {
        const ExponentTotal& part = totals[row * division.pieces + piece];
        all.add(part.reference, part.total);
      }
      to[2 * row] = static_cast<float>(all.reference);
      to[2 * row + 1] = static_cast<float>(all.total * std::exp(all.reference - static_cast<double>(to[2 * row])));
    }
  }
};

}  // namespace

#endif
