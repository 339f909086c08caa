// The divergence between two models' distributions over the vocabulary, and its gradient, one block of rows at a time.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "half-exponent.h"
#include "half-products.h"

#if ESPALIER_HALVES

namespace {

// Hidden states [rows, size] of both models through the head: sum p (log p - log q) of each row, and the gradient of their sum times
// `scale` with respect to the own states. A block's logits stay float32; their gradient is rounded to halves for its product.
struct HalfDivergence {
  Units units;
  RowsIn own, dense;
  int64_t rows, vocabulary;
  HalfPanels head, turned;
  const float* bias;
  float cap, scale;
  float *losses, *gradient;

  // Logits of each model that all threads together hold in memory, unless that leaves too few rows.
  static constexpr int64_t logitsAtOnce = 1 << 23, mostRows = 64;

  int64_t blockRows() const {
    const int64_t threads = Pool::shared().threads(), share = (rows + threads - 1) / threads;
    return std::max<int64_t>(panelSide, std::min({logitsAtOnce / threads / stride() / panelSide * panelSide, roundUp(share, panelSide), mostRows}));
  }
  int64_t stride() const { return head.count() * panelSide; }

  // For one row: logits of both models, the largest logits, and the sums of exponents relative to these.
  struct Row {
    const float *own, *dense;
    float ownLargest, denseLargest, ownTotal, denseTotal;
  };

  // Computes both models' logits and their largest values per lane. The dense model's rows follow the own ones after `padded` rows.
  void logitsOf(int64_t first, int64_t count, int64_t padded, float* logits, __m512* largest) const {
    const HalfRows a = halfRows(padded + count, head.depth(), 1);
    own.pack(a, first, count);
    dense.pack(a, first, count, padded);
    std::fill(largest, largest + padded + count, _mm512_set1_ps(unseen));
    forPanels(units, a, padded + count, head, 0, head.count(), [&](int64_t panel, int64_t row, int some, const float* c) {
      for (int half = 0; half < 2; half++) {
        const int64_t column = panel * panelSide + half * tileSide;
        const __mmask16 inside = firstLanes(static_cast<int>(std::min<int64_t>(tileSide, vocabulary - column)));
        const __m512 shift = bias ? _mm512_maskz_loadu_ps(inside, bias + column) : _mm512_setzero_ps();
        for (int r = 0; r < some; r++) {
          const __m512 plain = capped(_mm512_add_ps(_mm512_load_ps(c + r * panelSide + half * tileSide), shift), cap);
          const __m512 value = _mm512_mask_mov_ps(_mm512_set1_ps(unseen), inside, plain);
          _mm512_storeu_ps(logits + (row + r) * stride() + column, value);
          largest[row + r] = _mm512_max_ps(largest[row + r], value);
        }
      }
    });
  }

  // Fills in the sums of a row and returns its divergence.
  float sumRow(Row& row) const {
    const __m512 ownShift = _mm512_set1_ps(row.ownLargest * binaryLog), denseShift = _mm512_set1_ps(row.denseLargest * binaryLog);
    constexpr int64_t piece = 64 * tileSide;
    double ownTotal = 0, denseTotal = 0, apart = 0;
    for (int64_t first = 0; first < stride(); first += piece) {
      __m512 ownSum = _mm512_setzero_ps(), denseSum = ownSum, weighted = ownSum;
      for (int64_t i = first; i < std::min(stride(), first + piece); i += tileSide) {
        const __m512 a = _mm512_loadu_ps(row.dense + i), b = _mm512_loadu_ps(row.own + i), weight = exponentAbove<false>(a, denseShift);
        ownSum = _mm512_add_ps(ownSum, exponentAbove<false>(b, ownShift));
        denseSum = _mm512_add_ps(denseSum, weight);
        weighted = _mm512_fmadd_ps(weight, _mm512_sub_ps(a, b), weighted);
      }
      ownTotal += _mm512_reduce_add_ps(ownSum);
      denseTotal += _mm512_reduce_add_ps(denseSum);
      apart += _mm512_reduce_add_ps(weighted);
    }
    row.ownTotal = static_cast<float>(ownTotal);
    row.denseTotal = static_cast<float>(denseTotal);
    return static_cast<float>(apart / denseTotal - row.denseLargest - std::log(denseTotal) + row.ownLargest + std::log(ownTotal));
  }

  // Writes (q - p) * scale for the tokens [from, from + size), rounded, to row `at` of a left operand.
  void packGradient(const Row& row, int64_t from, int64_t size, const HalfRows& to, int64_t at) const {
    const __m512 ownShift = _mm512_set1_ps(row.ownLargest * binaryLog), denseShift = _mm512_set1_ps(row.denseLargest * binaryLog);
    const __m512 ownFactor = _mm512_set1_ps(scale / row.ownTotal), denseFactor = _mm512_set1_ps(scale / row.denseTotal);
    const auto read = [&](int64_t i, int count) {
      if (count <= 0) return _mm512_setzero_ps();
      const __m512 logits = _mm512_loadu_ps(row.own + from + i);
      const __m512 q = _mm512_mul_ps(exponentAbove<false>(logits, ownShift), ownFactor);
      const __m512 p = _mm512_mul_ps(exponentAbove<false>(_mm512_loadu_ps(row.dense + from + i), denseShift), denseFactor);
      const __m512 byLogits = _mm512_sub_ps(q, p);
      if (cap <= 0) return byLogits;
      const __m512 share = _mm512_max_ps(_mm512_mul_ps(logits, _mm512_set1_ps(1 / cap)), _mm512_set1_ps(-1));
      return _mm512_mul_ps(byLogits, _mm512_fnmadd_ps(share, share, _mm512_set1_ps(1)));
    };
    to.put(read, size, at);
  }

  // The rows' gradient with respect to their states, one piece of the vocabulary at a time. Each piece's logit gradients are computed just
  // before they are multiplied.
  void gradientOf(const Row* row, int64_t first, int64_t count) const {
    const int64_t blocks = (count + panelSide - 1) / panelSide, panels = turned.count(), depth = turned.depth(), step = depthAtOnce(depth, false);
    const HalfRows left = halfRows(count, step, 1);
    float* sums = scratch<10>(blocks * panels * panelSide * panelSide);
    for (int64_t k = 0; k < depth; k += step) {
      const int64_t deep = std::min(step, depth - k);
      for (int64_t r = 0; r < count; r++) packGradient(row[r], k * tileDepth, deep * tileDepth, left, r);
      for (int64_t panel = 0; panel < panels; panel++) {
        const Operand right = turned.operand(panel).from(k);
        const bool ends = panel + 1 == panels;
        const int64_t next = ends ? k + step : k;
        const Operand ahead = turned.operand(ends ? 0 : panel + 1).from(next);
        for (int64_t block = 0; block < blocks; block++) {
          fetchShare(ahead, std::min(step, depth - next), block, blocks);
          const int some = static_cast<int>(std::min<int64_t>(panelSide, count - block * panelSide));
          multiplyPanels(units, left.operand(block * panelSide, 0), right, static_cast<int>(deep), sums + (block * panels + panel) * panelSide * panelSide,
                         panelSide, some, k > 0);
        }
      }
    }
    const RowsOut out{nullptr, nullptr, 1, own.size, gradient};
    for (int64_t block = 0; block < blocks; block++)
      for (int64_t panel = 0; panel < panels; panel++)
        out.take(panel, first + block * panelSide, static_cast<int>(std::min<int64_t>(panelSide, count - block * panelSide)),
                 sums + (block * panels + panel) * panelSide * panelSide);
  }

  void run() const {
    const int64_t block = blockRows();
    Pool::shared().run(static_cast<int>((rows + block - 1) / block), [&](int task) {
      TileRegisters registers(units);
      const int64_t first = task * block, count = std::min(block, rows - first), padded = roundUp(count, panelSide);
      float* logits = scratch<6>((padded + count) * stride());
      __m512 largest[2 * mostRows];
      logitsOf(first, count, padded, logits, largest);
      Row states[mostRows];
      for (int64_t r = 0; r < count; r++) {
        states[r] = {logits + r * stride(), logits + (padded + r) * stride(), _mm512_reduce_max_ps(largest[r]), _mm512_reduce_max_ps(largest[padded + r]), 0, 0};
        losses[first + r] = sumRow(states[r]);
      }
      if (gradient) gradientOf(states, first, count);
    });
  }

 private:
  // The logit of padding, which is no token.
  static constexpr float unseen = -1e30f;
};

}  // namespace

#endif
