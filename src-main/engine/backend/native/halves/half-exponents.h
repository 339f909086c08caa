// Sums of exponents of logits, without storing the logits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "half-exponent.h"
#include "half-products.h"

#if ESPALIER_HALVES

namespace {

// Passes hidden states [rows, size] through the head. Each row gives a reference and the sum of exponents relative to it.
struct HalfExponents {
  Units units;
  RowsIn in;
  int64_t rows, columns;
  HalfPanels head;
  int parts;
  const float* bias;
  float cap;

  // Sixteen sums side by side, each with a reference that moves only when exponents could overflow.
  struct Sums {
    __m512 reference, total;
  };

  void add(Sums& sums, __m512 logits, int width) const {
    if (width < tileSide)
      logits = _mm512_mask_mov_ps(_mm512_set1_ps(-std::numeric_limits<float>::infinity()), static_cast<__mmask16>((1u << width) - 1), logits);
    const __m512 above = _mm512_sub_ps(logits, sums.reference);
    if (_mm512_cmp_ps_mask(above, _mm512_set1_ps(40), _CMP_GT_OQ)) {
      const __m512 next = _mm512_max_ps(sums.reference, logits);
      sums.total = _mm512_mul_ps(sums.total, quickExponent(_mm512_sub_ps(sums.reference, next)));
      sums.reference = next;
      sums.total = _mm512_add_ps(sums.total, quickExponent(_mm512_sub_ps(logits, next)));
      return;
    }
    sums.total = _mm512_add_ps(sums.total, quickExponent(above));
  }

  // Combines many such pairs into one reference and the sum relative to it.
  struct Total {
    double reference = -1e30, total = 0;

    void add(double otherReference, double otherTotal) {
      if (otherTotal == 0) return;
      const double next = std::max(reference, otherReference);
      total = total * std::exp(reference - next) + otherTotal * std::exp(otherReference - next);
      reference = next;
    }

    void add(const Sums& sums) {
      alignas(64) float references[tileSide], totals[tileSide];
      _mm512_store_ps(references, sums.reference);
      _mm512_store_ps(totals, sums.total);
      for (int i = 0; i < tileSide; i++) add(references[i], totals[i]);
    }
  };

  void addPanels(const HalfRows& a, int64_t count, int64_t from, int64_t to, Sums* sums) const {
    forPanels(units, a, count, head, from, to, [&](int64_t panel, int64_t row, int own, const float* c) {
      for (int half = 0; half < 2; half++) {
        const int64_t column = panel * panelSide + half * tileSide;
        const int width = static_cast<int>(std::min<int64_t>(tileSide, columns - column));
        if (width <= 0) return;
        const __m512 shift = bias ? loadSome(bias + column, width) : _mm512_setzero_ps();
        for (int r = 0; r < own; r++) add(sums[row + r], capped(_mm512_add_ps(_mm512_load_ps(c + r * panelSide + half * tileSide), shift), cap), width);
      }
    });
  }

  void run(float* to) const {
    const Division division(rows, head.count(), parts * head.depth() * tileDepth);
    std::vector<Total> totals(rows * division.pieces);
    division.run(rows, head.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t piece) {
      TileRegisters registers(units);
      const HalfRows a = halfRows(count, head.depth(), parts);
      in.pack(a, first, count);
      Sums* sums = reinterpret_cast<Sums*>(scratch<6>(count * sizeof(Sums) / sizeof(float)));
      std::fill(sums, sums + count, Sums{_mm512_set1_ps(-1e30f), _mm512_setzero_ps()});
      addPanels(a, count, from, last, sums);
      for (int64_t row = 0; row < count; row++) totals[(first + row) * division.pieces + piece].add(sums[row]);
    });
    for (int64_t row = 0; row < rows; row++) {
      Total all;
      for (int64_t piece = 0; piece < division.pieces; piece++) {
        const Total& part = totals[row * division.pieces + piece];
        all.add(part.reference, part.total);
      }
      to[2 * row] = static_cast<float>(all.reference);
      to[2 * row + 1] = static_cast<float>(all.total * std::exp(all.reference - static_cast<double>(to[2 * row])));
    }
  }
};

}  // namespace

#endif
