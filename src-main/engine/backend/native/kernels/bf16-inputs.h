// Reads packed weights and norms from the tensors of a call.

#pragma once

#include <cstdint>

#include "../bf16/bf16-products.h"
#include "../bf16/bf16-weights.h"
#include "../norm.h"
#include "call.h"

#if ESPALIER_BF16

namespace {

PackedWeight packedWeight(const TF_Tensor* tensor) {
  const int64_t tiles = TF_Dim(tensor, 1), depth = TF_Dim(tensor, 2);
  const Bf16* high = reinterpret_cast<const Bf16*>(wordsOf(tensor));
  return {high, TF_Dim(tensor, 0) == 2 ? high + tiles * depth * tileSize : nullptr, tiles, depth};
}

// Whether a packed weight maps rows of `size`, taken in 16-bit parts, to `columns`. A split weight needs rows in two parts.
bool fitsWeight(const TF_Tensor* weight, int64_t columns, int64_t size, int parts = 2) {
  return parts >= 1 && parts <= 3 && TF_NumDims(weight) == 4 && TF_Dim(weight, 0) <= (parts == 2 ? 2 : 1) && TF_Dim(weight, 1) * tileSide == roundUp(columns, panelSide) &&
         TF_Dim(weight, 2) * tileDepth == roundUp(size, tileDepth) && TF_Dim(weight, 3) * 2 == tileSize;
}

// The norm before a part of a block, and the factor for the part's output before it is added to the stream.
struct PartNorm {
  Norm norm;
  bool weighted, shifted;
  float scale;

  explicit PartNorm(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0},
        weighted(intOf(from, "weighted") != 0),
        shifted(intOf(from, "shifted") != 0),
        scale(floatOf(from, "scale")) {}

  RowsIn rowsIn(const TF_Tensor* x, const TF_Tensor* weight, const TF_Tensor* bias, bool normed) const {
    return {dataOf(x), TF_Dim(x, 1), normed ? &norm : nullptr, weighted ? dataOf(weight) : nullptr, shifted ? dataOf(bias) : nullptr};
  }

  bool fits(const TF_Tensor* x, const TF_Tensor* weight, const TF_Tensor* bias) const {
    return isMatrix(x) && (!weighted || sizeOf(weight) == TF_Dim(x, 1)) && (!shifted || sizeOf(bias) == TF_Dim(x, 1));
  }
};

}  // namespace

#endif
