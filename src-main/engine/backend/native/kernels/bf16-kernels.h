// TensorFlow kernels that pack weights and multiply by them.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "../bf16/bf16-exponents.h"
#include "../bf16/bf16-products.h"
#include "../stored-entries.h"
#include "bf16-inputs.h"
#include "call.h"
#include "row-factor.h"

#if ESPALIER_BF16

namespace {

// A weight [R, C] to tiles of halves, [1, column tiles, depth, 256] words. With `split`, a weight that is not exact in halves gives [2,
// ...], with the rounding remainder second. With `transposed`, the stored tensor is the transpose, [C, R]. Rows that were multiplied by a factor
// are divided by it, if the weight is not transposed.
struct PackKernel {
  bool split, transposed;
  RowFactor factor;

  explicit PackKernel(TF_OpKernelConstruction* from)
      : split(intOf(from, "split") != 0), transposed(intOf(from, "transposed") != 0), factor(rowFactorOf(from)) {}

  void compute(Call& call) const {
    const TF_Tensor* weight;
    if (!call.inputs({&weight}) || !call.require(isMatrix(weight) && sizeOf(weight) > 0, "A weight to be packed is a matrix.") ||
        !requireFactor(call, factor, weight))
      return;
    const int64_t stride = TF_Dim(weight, 1), rows = TF_Dim(weight, transposed ? 1 : 0), columns = TF_Dim(weight, transposed ? 0 : 1);
    const int64_t depth = roundUp(columns, tileDepth) / tileDepth, tiles = roundUp(rows, panelSide) / tileSide;
    const float* from = dataOf(weight);
    const int parts = split && !areBrainFloats(from, sizeOf(weight), factor.rows * stride, factor.by) ? 2 : 1;
    float* output = call.output({parts, tiles, depth, tileSize / 2}, int32);
    if (!output) return;
    Bf16* to = reinterpret_cast<Bf16*>(output);
    Pool::shared().run(static_cast<int>(tiles), [&](int tile) {
      const int64_t row = static_cast<int64_t>(tile) * tileSide;
      const int count = static_cast<int>(std::max<int64_t>(0, std::min<int64_t>(tileSide, rows - row)));
      for (int low = 0; low < parts; low++) {
        Bf16* own = to + (low * tiles + tile) * depth * tileSize;
        if (!transposed) packColumns(rowsFrom(from, row, count, stride), stride, count, own, depth, low);
        for (int64_t k = 0; transposed && k < depth; k++) {
          const int left = static_cast<int>(std::min<int64_t>(tileDepth, columns - k * tileDepth));
          packTransposedColumns(from + k * tileDepth * stride + row, stride, left, count, own + k * tileSize, low);
        }
      }
    });
  }

 private:
  // Rows [first, first + count) of a weight, without their factor.
  const float* rowsFrom(const float* weight, int64_t first, int64_t count, int64_t columns) const {
    const float* from = weight + first * columns;
    const int64_t divided = std::clamp<int64_t>(factor.rows - first, 0, count);
    if (divided == 0) return from;
    float* to = scratch<0>(count * columns);
    divide(from, divided * columns, factor.by, to);
    std::copy(from + divided * columns, from + count * columns, to + divided * columns);
    return to;
  }
};

// Whether all entries of a weight are exact in halves, once rows that were multiplied by a factor are divided by it: [1], 1 or 0.
struct ExactKernel {
  RowFactor factor;

  explicit ExactKernel(TF_OpKernelConstruction* from) : factor(rowFactorOf(from)) {}

  void compute(Call& call) const {
    const TF_Tensor* weight;
    if (!call.inputs({&weight}) || !requireFactor(call, factor, weight)) return;
    float* output = call.output({1});
    if (!output) return;
    constexpr int64_t piece = 1 << 18;
    const int64_t size = sizeOf(weight), divided = factor.rows * TF_Dim(weight, 1);
    std::atomic<bool> exact = true;
    Pool::shared().run(static_cast<int>((size + piece - 1) / piece), [&](int index) {
      const int64_t first = index * piece, own = std::min(piece, size - first);
      if (exact && !areBrainFloats(dataOf(weight) + first, own, std::clamp<int64_t>(divided - first, 0, own), factor.by)) exact = false;
    });
    *output = exact;
  }
};

// x [N, D], with an optional norm, times a packed weight of `columns` and the factor that its rows were divided by, plus its bias, times
// `scale`, optionally plus `add`: [N, columns].
struct Bf16ProductKernel {
  PartNorm norm;
  RowFactor factor;
  int units, columns, parts;
  bool normed, biased, adds;

  explicit Bf16ProductKernel(TF_OpKernelConstruction* from)
      : norm(from),
        factor(rowFactorOf(from)),
        units(intOf(from, "units")),
        columns(intOf(from, "columns")),
        parts(intOf(from, "parts")),
        normed(intOf(from, "normed") != 0),
        biased(intOf(from, "biased") != 0),
        adds(intOf(from, "adds") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *normWeight, *normBias, *weight, *bias, *add;
    if (!call.inputs({&x, &normWeight, &normBias, &weight, &bias, &add})) return;
    const bool fits = isMatrix(x) && columns > 0 && fitsWeight(weight, columns, TF_Dim(x, 1), parts) && (!biased || sizeOf(bias) == columns) &&
                      (!normed || norm.fits(x, normWeight, normBias)) && (!adds || sizeOf(add) == TF_Dim(x, 0) * columns);
    if (!call.require(fits, "A product of halves: the packed weight, norm, bias or sum does not fit the rows.")) return;
    float* output = call.output({TF_Dim(x, 0), columns});
    if (!output) return;
    multiplyBf16(unitsFor(units), norm.rowsIn(x, normWeight, normBias, normed), TF_Dim(x, 0), {packedWeight(weight)},
                   parts, {biased ? dataOf(bias) : nullptr, adds ? dataOf(add) : nullptr, norm.scale, columns, output, TF_Dim(x, 0), factor});
  }
};

// Like `ExponentsKernel`, for the logits of hidden states x [N, D] over a packed head of `columns` entries: [N, 2]. Instead of the largest
// logit, it returns a reference near it.
struct Bf16ExponentsKernel {
  int units, columns, parts;
  bool biased;
  float cap;

  explicit Bf16ExponentsKernel(TF_OpKernelConstruction* from)
      : units(intOf(from, "units")),
        columns(intOf(from, "columns")),
        parts(intOf(from, "parts")),
        biased(intOf(from, "biased") != 0),
        cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *head, *bias;
    if (!call.inputs({&x, &head, &bias})) return;
    const bool fits = isMatrix(x) && columns > 0 && fitsWeight(head, columns, TF_Dim(x, 1), parts) && (!biased || sizeOf(bias) == columns);
    if (!call.require(fits, "Sums of exponents: the packed head does not fit the rows.")) return;
    float* output = call.output({TF_Dim(x, 0), 2});
    if (!output) return;
    Bf16Exponents{unitsFor(units), {dataOf(x), TF_Dim(x, 1), nullptr, nullptr, nullptr}, TF_Dim(x, 0), columns, {packedWeight(head)},
                  parts, biased ? dataOf(bias) : nullptr, cap}
        .run(output);
  }
};

}  // namespace

#endif
