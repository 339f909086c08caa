// The divergence between two models' distributions over the vocabulary, and its gradient, one block of rows at a time.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "bf16-exponent.h"
#include "bf16-products.h"

#if ESPALIER_BF16

namespace {

// Hidden states [rows, size] of both models through the head: sum p (log p - log q) of each row, and the gradient of their sum times
// `scale` with respect to the own states. A block's logits stay float32; their gradient is rounded to halves for its product.
struct Bf16Divergence {
  Units units;
  RowsIn own, dense;
  int64_t rows, vocabulary;
  Bf16Panels head, transposed;
  const float* bias;
  float cap, scale;
  float *losses, *gradient;

  // Logits of each model that all threads together hold in memory, unless that leaves too few rows.
  static constexpr int64_t logitsAtOnce = 3 << 22, mostRows = 128;

  int64_t blockRows() const {
    const int64_t threads = Pool::shared().threads(), share = (rows + threads - 1) / threads;
    return std::max<int64_t>(panelSide, std::min({logitsAtOnce / threads / stride() / panelSide * panelSide, roundUp(share, panelSide), mostRows}));
  }
  int64_t stride() const { return head.count() * panelSide; }

  // A row's sums of exponentials in both models, and its sum of p (log p - log q) without the logarithms of those sums.
  struct Row {
    ExponentTotal own, dense;
    double apart = 0;

    void add(const ExponentSums& ofOwn, const ExponentSums& ofDense, __m512 ofApart) {
      own.add(ofOwn);
      dense.add(ofDense);
      alignas(64) float references[tileSide], sums[tileSide];
      _mm512_store_ps(references, ofDense.reference);
      _mm512_store_ps(sums, ofApart);
      for (int i = 0; i < tileSide; i++) apart += sums[i] * std::exp(references[i] - dense.reference);
    }

    float divergence() const {
      return static_cast<float>(apart / dense.total - dense.reference - std::log(dense.total) + own.reference + std::log(own.total));
    }
  };

  // Logits of `padded` own rows and of as many of the dense model, by panels of 32 tokens, which is the order of writing and of reading.
  struct Logits {
    float* values;
    int64_t padded;

    float* at(int64_t panel, int64_t row, bool ofDense = false) const { return values + ((2 * panel + ofDense) * padded + row) * panelSide; }
  };

  // Computes both models' logits, which it keeps only if the gradient needs them, and their sums.
  void logitsOf(int64_t first, int64_t count, const Logits& logits, Row* found) const {
    const int64_t padded = logits.padded;
    const Bf16Rows a = bf16Rows(padded + count, head.depth(), 1);
    own.pack(a, first, count);
    dense.pack(a, first, count, padded);
    ExponentSums sums[2 * mostRows];
    __m512 apart[mostRows];
    std::fill(apart, apart + count, _mm512_setzero_ps());
    alignas(64) float panelOfOwn[mostRows * panelSide];
    forPanels<panelSide>(units, a, padded + count, head, 0, head.count(), [&](int64_t panel, int64_t row, int some, const float* c) {
      for (int half = 0; half < 2; half++) {
        const int64_t column = panel * panelSide + half * tileSide;
        const __mmask16 inside = firstLanes(static_cast<int>(std::min<int64_t>(tileSide, vocabulary - column)));
        const __m512 shift = bias ? _mm512_maskz_loadu_ps(inside, bias + column) : _mm512_setzero_ps();
        for (int64_t at = row; at < row + some; at++) {
          const __m512 plain = capped(_mm512_add_ps(_mm512_load_ps(c + (at - row) * panelSide + half * tileSide), shift), cap);
          const __m512 value = _mm512_mask_mov_ps(_mm512_set1_ps(unseen), inside, plain);
          if (logits.values) _mm512_stream_ps(logits.at(panel, at % padded, at >= padded) + half * tileSide, value);
          float* beside = panelOfOwn + at % padded * panelSide + half * tileSide;
          if (at < padded) {
            _mm512_store_ps(beside, value);
            sums[at].add(value);
          } else {
            __m512& total = apart[at - padded];
            const __m512 weight = sums[at].add(value, &total);
            total = _mm512_fmadd_ps(weight, _mm512_sub_ps(value, _mm512_load_ps(beside)), total);
          }
        }
      }
    });
    for (int64_t r = 0; r < count; r++) found[r].add(sums[r], sums[padded + r], apart[r]);
  }

  // Writes (q - p) * scale for a panel of tokens, rounded, to tile `k` of a left operand.
  void packGradient(const Row* rows, int64_t count, const Logits& logits, int64_t panel, const Bf16Rows& to, int64_t k) const {
    const auto all = [](double value) { return _mm512_set1_ps(static_cast<float>(value)); };
    for (int64_t r = 0; r < count; r++) {
      const __m512 ownShift = all(rows[r].own.reference * binaryLog), denseShift = all(rows[r].dense.reference * binaryLog);
      const __m512 ownFactor = all(scale / rows[r].own.total), denseFactor = all(scale / rows[r].dense.total);
      const auto byLogits = [&](int from) {
        const __m512 own = _mm512_load_ps(logits.at(panel, r) + from), ofDense = _mm512_load_ps(logits.at(panel, r, true) + from);
        const __m512 q = _mm512_mul_ps(exponentAbove<false>(own, ownShift), ownFactor);
        const __m512 p = _mm512_mul_ps(exponentAbove<false>(ofDense, denseShift), denseFactor);
        if (cap <= 0) return _mm512_sub_ps(q, p);
        const __m512 share = _mm512_max_ps(_mm512_mul_ps(own, all(1 / cap)), all(-1));
        return _mm512_mul_ps(_mm512_sub_ps(q, p), _mm512_fnmadd_ps(share, share, all(1)));
      };
      _mm512_storeu_si512(to.tiles + r / tileSide * to.depth * tileSize + k * tileSize + r % tileSide * tileDepth, roundToBf16(byLogits(0), byLogits(tileSide)));
    }
  }

  // The rows' gradient with respect to their states, one piece of the vocabulary at a time. Each piece's logit gradients are computed just
  // before they are multiplied.
  void gradientOf(const Row* found, const Logits& logits, int64_t first, int64_t count) const {
    const int64_t blocks = (count + panelSide - 1) / panelSide, panels = transposed.count(), depth = transposed.depth(), step = depthAtOnce(depth, false);
    const Bf16Rows left = bf16Rows(count, step, 1);
    float* sums = scratch<10>(blocks * panels * panelSide * panelSide);
    for (int64_t k = 0; k < depth; k += step) {
      const int64_t deep = std::min(step, depth - k);
      for (int64_t i = 0; i < deep; i++) packGradient(found, count, logits, k + i, left, i);
      for (int64_t panel = 0; panel < panels; panel++) {
        const Operand right = transposed.operand(panel).from(k);
        const bool ends = panel + 1 == panels;
        const int64_t next = ends ? k + step : k;
        const Operand ahead = transposed.operand(ends ? 0 : panel + 1).from(next);
        for (int64_t block = 0; block < blocks; block++) {
          Fetch fetch(ahead, std::min(step, depth - next), block, blocks, deep);
          const int some = static_cast<int>(std::min<int64_t>(panelSide, count - block * panelSide));
          multiplyPanels(units, left.operand(block * panelSide, 0), right, static_cast<int>(deep), sums + (block * panels + panel) * panelSide * panelSide,
                         panelSide, some, k > 0, [&] { fetch.some(); });
          fetch.rest();
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
      const Logits logits{gradient ? scratch<6>(2 * padded * stride()) : nullptr, padded};
      Row found[mostRows];
      logitsOf(first, count, logits, found);
      for (int64_t r = 0; r < count; r++) losses[first + r] = found[r].divergence();
      if (gradient) gradientOf(found, logits, first, count);
    });
  }

 private:
  // The logit of padding columns, which are not tokens.
  static constexpr float unseen = -1e30f;
};

}  // namespace

#endif
