// An MLP with packed weights.

#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "../activation.h"
#include "bf16-exponent.h"
#include "bf16-products.h"

#if ESPALIER_BF16

namespace {

inline __m512 activateVector(Activation kind, __m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  switch (kind) {
    case silu: return _mm512_div_ps(x, _mm512_add_ps(one, quickExponent(_mm512_sub_ps(_mm512_setzero_ps(), x))));
    case geluTanh: {
      // 1 + tanh(y) = 2 / (1 + exp(-2 y)).
      const __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), one);
      const __m512 y = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(-2 * 0.79788456f)), cubic);
      return _mm512_div_ps(x, _mm512_add_ps(one, quickExponent(y)));
    }
    case relu: return _mm512_max_ps(x, _mm512_setzero_ps());
    default: {
      alignas(64) float values[tileSide];
      _mm512_store_ps(values, x);
      for (float& value : values) value = activate(kind, value);
      return _mm512_load_ps(values);
    }
  }
}

// Sixteen gates and sixteen ups per line, or only ups, as halves: [rows / 32, neurons / 16, 32]. The order is that in which product blocks
// are computed, so that nothing waits for memory.
struct KeptNeurons {
  Bf16* to = nullptr;
  int64_t neurons = 0;

  static int64_t halves(int64_t rows, int64_t neurons) { return roundUp(rows, panelSide) * roundUp(neurons, panelSide) * 2; }
  Bf16* at(int64_t row, int64_t neuron) const {
    return to + ((row / panelSide * (roundUp(neurons, panelSide) / tileSide) + neuron / tileSide) * panelSide + row % panelSide) * tileDepth;
  }
  void put(int64_t row, int64_t neuron, __m512 gate, __m512 up) const {
    if (to) _mm512_stream_si512(reinterpret_cast<__m512i*>(at(row, neuron)), roundToBf16(gate, up));
  }
};

// Sums of magnitudes and of squares of neurons over each 32 rows: [rows / 32, 2, neurons], neurons rounded up to whole vectors.
struct NeuronSums {
  float* to = nullptr;
  int64_t neurons = 0;

  static int64_t floats(int64_t rows, int64_t neurons) { return roundUp(rows, panelSide) / panelSide * 2 * roundUp(neurons, tileSide); }
  float* at(int64_t row, bool squares) const { return to + (row / panelSide * 2 + squares) * roundUp(neurons, tileSide); }

  // Sums over whole samples of `rows` rows each, which are a multiple of 32: [2, samples, neurons].
  void sumSamples(int64_t samples, int64_t rows, float* sums) const {
    std::vector<double> total(neurons);
    for (int64_t squares = 0; squares < 2; squares++) {
      for (int64_t sample = 0; sample < samples; sample++, sums += neurons) {
        std::fill(total.begin(), total.end(), 0.0);
        for (int64_t row = sample * rows; row < (sample + 1) * rows; row += panelSide)
          for (int64_t i = 0; i < neurons; i++) total[i] += at(row, squares)[i];
        std::copy(total.begin(), total.end(), sums);
      }
    }
  }
};

// An MLP. A panel holds sixteen gates and sixteen ups, or thirty-two ups without gates.
struct Bf16Mlp {
  Units units;
  RowsIn in;
  int64_t rows, neurons;
  Activation activation;
  bool gated;
  const float *gateBias, *upBias;
  Bf16Panels gateUp, down;
  // How many 16-bit parts rows and neurons are split into for products.
  int parts;
  RowsOut out;
  // Receives gates and ups (or only ups) for a backward pass, unless null.
  KeptNeurons kept = {};
  // Receives sums of neurons over rows, unless null.
  NeuronSums summed = {};

  // Computes the neurons of one 32 by 32 block, with rows counted from `base`, and calls `put(row, first neuron, count, sixteen values)`.
  template <class Put>
  void takeNeurons(int64_t panel, int64_t base, int64_t row, int count, const float* c, const Put& put) const {
    const int64_t neuron = panel * (gated ? tileSide : panelSide);
    for (int half = 0; half < (gated ? 1 : 2); half++) {
      const int64_t first = neuron + half * tileSide;
      const int width = static_cast<int>(std::min<int64_t>(tileSide, neurons - first));
      const __m512 gateShift = gateBias ? loadSome(gateBias + first, width) : _mm512_setzero_ps();
      const __m512 upShift = upBias ? loadSome(upBias + first, width) : _mm512_setzero_ps();
      // A block's rows may come in several calls.
      const bool sums = summed.to && width > 0, more = sums && row % panelSide > 0;
      float *magnitudesAt = sums ? summed.at(base + row, false) + first : nullptr, *squaresAt = sums ? summed.at(base + row, true) + first : nullptr;
      __m512 magnitudes = more ? _mm512_loadu_ps(magnitudesAt) : _mm512_setzero_ps(), squares = more ? _mm512_loadu_ps(squaresAt) : _mm512_setzero_ps();
      for (int r = 0; r < count; r++) {
        const float* own = c + r * panelSide + half * tileSide;
        __m512 value;
        if (gated) {
          const __m512 up = _mm512_add_ps(_mm512_load_ps(own + tileSide), upShift);
          const __m512 gate = _mm512_add_ps(_mm512_load_ps(own), gateShift);
          kept.put(base + row + r, first, gate, up);
          value = _mm512_mul_ps(activateVector(activation, gate), up);
        } else {
          const __m512 up = _mm512_add_ps(_mm512_load_ps(own), upShift);
          kept.put(base + row + r, first, up, _mm512_setzero_ps());
          value = activateVector(activation, up);
        }
        magnitudes = _mm512_add_ps(magnitudes, _mm512_abs_ps(value));
        squares = _mm512_fmadd_ps(value, value, squares);
        put(row + r, first, width, value);
      }
      if (!sums) continue;
      _mm512_storeu_ps(magnitudesAt, magnitudes);
      _mm512_storeu_ps(squaresAt, squares);
    }
  }

  // Rounds neurons into tiles of the next product's left operand.
  static void storeNeurons(const Bf16Rows& inner, int64_t row, int64_t neuron, __m512 value) {
    Bf16* to = inner.tiles + (row / tileSide * inner.depth + neuron / tileDepth) * tileSize + row % tileSide * tileDepth + neuron % tileDepth;
    for (int part = 0; part < inner.parts; part++, to += inner.halves) {
      const __m256bh rounded = _mm512_cvtneps_pbh(value);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)rounded);
      value = _mm512_sub_ps(value, widen(rounded));
    }
  }

  Bf16Rows innerRows(int64_t count) const { return bf16Rows<6>(count, down.depth(), parts); }

  void neuronsOf(const Bf16Rows& a, const Bf16Rows& inner, int64_t first, int64_t count, int64_t from, int64_t to) const {
    forPanels(units, a, count, gateUp, from, to, [&](int64_t panel, int64_t row, int own, const float* c) {
      takeNeurons(panel, first, row, own, c, [&](int64_t at, int64_t neuron, int, __m512 value) { storeNeurons(inner, at, neuron, value); });
    });
  }

  void outputOf(const Bf16Rows& inner, int64_t first, int64_t count, int64_t from, int64_t to) const {
    forPanels(units, inner, count, down, from, to,
              [&](int64_t panel, int64_t row, int own, const float* c) { out.take(panel, first + row, own, c); });
  }

  // Computes only the neurons, in float32: to[row * neurons + neuron].
  void runNeurons(float* to) const {
    Division(rows, gateUp.count(), parts * gateUp.depth() * tileDepth).run(rows, gateUp.count(), [&](int64_t first, int64_t count, int64_t from, int64_t last, int64_t) {
      TileRegisters registers(units);
      const Bf16Rows a = bf16Rows(count, gateUp.depth(), parts);
      in.pack(a, first, count);
      forPanels(units, a, count, gateUp, from, last, [&](int64_t panel, int64_t row, int own, const float* c) {
        takeNeurons(panel, first, row, own, c, [&](int64_t at, int64_t neuron, int width, __m512 value) {
          if (width > 0) storeSome(to + (first + at) * neurons + neuron, value, width);
        });
      });
    });
  }

  void run() const {
    const Division division(rows, gateUp.count(), parts * (gateUp.depth() + down.depth()) * tileDepth);
    if (division.pieces > 1) return runFew();
    division.run(rows, gateUp.count(), [&](int64_t first, int64_t count, int64_t, int64_t, int64_t) {
      TileRegisters registers(units);
      const Bf16Rows a = bf16Rows(count, gateUp.depth(), parts), inner = innerRows(count);
      in.pack(a, first, count);
      neuronsOf(a, inner, first, count, 0, gateUp.count());
      outputOf(inner, first, count, 0, down.count());
    });
  }

  // For few rows: all threads share the rows and divide the weights.
  void runFew() const {
    const Bf16Rows a = bf16Rows(rows, gateUp.depth(), parts), inner = innerRows(rows);
    in.pack(a, 0, rows);
    const auto divide = [&](int64_t panels, const std::function<void(int64_t, int64_t)>& task) {
      const int64_t pieces = std::min<int64_t>(panels, 4 * Pool::shared().threads());
      Pool::shared().run(static_cast<int>(pieces), [&](int piece) {
        TileRegisters registers(units);
        task(panels * piece / pieces, panels * (piece + 1) / pieces);
      });
    };
    divide(gateUp.count(), [&](int64_t from, int64_t to) { neuronsOf(a, inner, 0, rows, from, to); });
    divide(down.count(), [&](int64_t from, int64_t to) { outputOf(inner, 0, rows, from, to); });
  }
};

}  // namespace

#endif
