// Weights in bfloat16 for few rows, as TensorFlow calls them.

#pragma once

#include <cstdint>

#include "../brain-floats.h"
#include "../few-rows.h"
#include "call.h"

namespace {

// A weight [R, C] in bfloat16, two entries to a word: [R, C / 2]. Where something would be lost, or C does not fill
// vectors, whose remainder is summed in another way, [0, 0].
struct NarrowKernel {
  explicit NarrowKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor* weight;
    if (!call.inputs({&weight}) || !call.require(isMatrix(weight), "A weight in bfloat16 is a matrix.")) return;
    const int64_t rows = TF_Dim(weight, 0), columns = TF_Dim(weight, 1), size = rows * columns;
    const bool fits = columns % lanes == 0 && areBrainFloats(dataOf(weight), size);
    float* output = call.output({fits ? rows : 0, fits ? columns / 2 : 0}, int32);
    if (!output || !fits) return;
    BrainFloat* to = reinterpret_cast<BrainFloat*>(output);
    inPieces(size, 1 << 16, [&](int64_t first, int64_t last) { toBrainFloats(dataOf(weight) + first, last - first, to + first); });
  }
};

// A weight of `NarrowKernel` for rows of `columns` entries.
bool brainFloats(const TF_Tensor* weight, int64_t rows, int64_t columns, const BrainFloat*& to) {
  to = reinterpret_cast<const BrainFloat*>(wordsOf(weight));
  return isMatrix(weight) && TF_Dim(weight, 0) == rows && 2 * TF_Dim(weight, 1) == columns;
}

// As `FewRowsKernel`, of a weight in bfloat16.
struct FewNarrowRowsKernel {
  bool biased;

  explicit FewNarrowRowsKernel(TF_OpKernelConstruction* from) : biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *bias;
    if (!call.inputs({&x, &weight, &bias})) return;
    StoredWeight stored;
    const bool fits = isMatrix(x) && isMatrix(weight) && TF_Dim(x, 1) > 0 && brainFloats(weight, TF_Dim(weight, 0), TF_Dim(x, 1), stored.brainFloats) &&
                      (!biased || sizeOf(bias) == TF_Dim(weight, 0));
    if (!call.require(fits, "A product of few rows takes x [N, D], a weight [R, D / 2] of pairs and a bias [R].")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1), columns = TF_Dim(weight, 0);
    float* output = call.output({rows, columns});
    if (!output) return;
    FewRows{dataOf(x), size, rows, size, stored, columns, biased ? dataOf(bias) : nullptr, output, columns}.run();
  }
};

}  // namespace
