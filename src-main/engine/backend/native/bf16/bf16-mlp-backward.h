// Gradients of a gated MLP and the norm in front of it. Values between products are rounded to tiles as soon as they are computed. Tiles
// for products by rows stay in a core's second-level cache; those for products over rows are kept for the whole call.

#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "../activation.h"
#include "bf16-mlp.h"
#include "bf16-transposed.h"

#if ESPALIER_BF16

namespace {

struct Bf16MlpBackward {
  Units units;
  Norm norm;
  Activation activation;
  int64_t rows, size, neurons;
  const float *gradient, *source, *weight;
  KeptNeurons kept;
  // Transposed weights for the products by rows: `active` is the projection that is activated; with gates, `other` is the up projection.
  Bf16Panels down, active, other;
  bool gated;
  float *bySource, *byWeight, *byBias, *byDown, *byActive, *byOther;

  // Tiles over all rows.
  struct Transposed {
    TransposedBf16 gradient, input, neurons, active, other;
  };

  // Computes sixteen neurons of up to 32 rows, and from their gradients c those of the activated input and of its multiplier.
  void takeNeurons(const Transposed& to, const Bf16Rows& actives, const Bf16Rows& others, int64_t first, int64_t row, int count, int64_t neuron,
                   const float* c) const {
    __m512i neuronPairs[tileSide], activePairs[tileSide], otherPairs[tileSide];
    for (int pair = 0; pair < tileSide; pair++) {
      __m512 made[2], byActives[2], byOthers[2];
      for (int i = 0; i < 2; i++) {
        const int r = 2 * pair + i;
        made[i] = byActives[i] = byOthers[i] = _mm512_setzero_ps();
        if (r < count) {
          const __m512i both = _mm512_load_si512(kept.at(first + row + r, neuron));
          const ValueAndSlope at = valueAndSlope(activation, (Vector)widen((__m256bh)_mm512_castsi512_si256(both)));
          const Vector inner = (Vector)_mm512_load_ps(c + r * panelSide);
          const Vector times = gated ? (Vector)widen((__m256bh)_mm512_extracti64x4_epi64(both, 1)) : all(1);
          made[i] = (__m512)(at.value * times);
          byActives[i] = (__m512)(inner * times * at.slope);
          byOthers[i] = (__m512)(inner * at.value);
        }
        Bf16Mlp::storeNeurons(actives, row + r, neuron, byActives[i]);
        if (gated) Bf16Mlp::storeNeurons(others, row + r, neuron, byOthers[i]);
      }
      neuronPairs[pair] = pairRows(made[0], made[1], false);
      activePairs[pair] = pairRows(byActives[0], byActives[1], false);
      otherPairs[pair] = pairRows(byOthers[0], byOthers[1], false);
    }
    to.neurons.putRight(neuron, first + row, neuronPairs);
    to.active.putLeft(neuron, first + row, activePairs);
    if (gated) to.other.putLeft(neuron, first + row, otherPairs);
  }

  // Gradients of some rows with respect to the source and, in `weights`, to the norm's weights and bias. Also packs the operands of the
  // products over rows.
  void rowsOf(const Transposed& transposed, int64_t first, int64_t count, float* weights) const {
    const Bf16Rows a = bf16Rows(count, down.depth(), 1);
    RowsIn{gradient, size, nullptr, nullptr, nullptr}.pack(a, first, count);
    transposed.gradient.packLeft(gradient, first, count);
    const int64_t padded = roundUp(count, panelSide), depth = active.depth(), halves = padded * depth * tileDepth;
    Bf16* inner = bf16Scratch<6>(2 * halves);
    const Bf16Rows actives{{inner, halves, 1, depth}}, others{{inner + halves, halves, 1, depth}};
    forPanels<panelSide>(units, a, count, down, 0, down.count(), [&](int64_t panel, int64_t row, int own, const float* c) {
      for (int half = 0; half < 2; half++)
        takeNeurons(transposed, actives, others, first, row, own, panel * panelSide + half * tileSide, c + half * tileSide);
    });
    float* byInput = scratch<7>((padded + 3) * roundUp(size, lanes));
    const RowsOut out{nullptr, nullptr, 1, size, byInput};
    for (int64_t panel = 0; panel < active.count(); panel++) {
      if (gated) forPanels(units, others, count, other, panel, panel + 1, [](int64_t, int64_t, int, const float*) {});
      forPanels(units, actives, count, active, panel, panel + 1, [&](int64_t at, int64_t row, int own, const float* c) { out.take(at, row, own, c); }, gated);
    }
    const NormBackward back{norm, source + first * size, weight, byInput, count, size, bySource + first * size, nullptr, nullptr};
    back.piece(0, count, weights, byInput + padded * size);
    transposed.input.packNormed(norm, source, weight, first, count);
  }

  void run() const {
    const int64_t block = blockRows(rows), blocks = (rows + block - 1) / block, deep = roundUp(rows, tileDepth) / tileDepth;
    const int64_t inner = roundUp(neurons, panelSide) * deep * tileDepth, outer = roundUp(size, panelSide) * deep * tileDepth;
    Bf16* half = bf16Scratch<3>(2 * outer + 3 * inner);
    const auto take = [&](int64_t halves, int64_t sides) { return half += halves, TransposedBf16{half - halves, sides, rows, deep}; };
    const Transposed transposed{take(outer, size), take(outer, size), take(inner, neurons), take(inner, neurons), take(inner, neurons)};
    float* weights = scratch<0>(2 * blocks * size);
    Pool::shared().run(static_cast<int>(blocks), [&](int task) {
      TileRegisters registers(units);
      rowsOf(transposed, task * block, std::min(block, rows - task * block), weights + 2 * task * size);
    });
    NormBackward{norm, source, weight, nullptr, rows, size, bySource, byWeight, byBias}.addPieces(weights, blocks);
    const TransposedBf16 none{nullptr, 0, rows, deep};
    multiplyTransposed(units, {{transposed.gradient, transposed.neurons, byDown},
                           {transposed.active, transposed.input, byActive},
                           {gated ? transposed.other : none, transposed.input, byOther}});
  }
};

}  // namespace

#endif
