// TensorFlow kernels for 16-bit weights and few rows.

#pragma once

#include <cstdint>

#include "../stored-entries.h"
#include "../few-rows.h"
#include "call.h"

namespace {

// A weight [R, C] in 16 bits, two entries per word: bfloat16 as [R, C / 2], else float16 as [R, C / 2, 1]. Returns [0, 0] if both would
// lose precision, or if C does not fill whole vectors, because the rest is summed differently.
struct NarrowKernel {
  explicit NarrowKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor* weight;
    if (!call.inputs({&weight}) || !call.require(isMatrix(weight), "A weight in 16 bits is a matrix.")) return;
    const int64_t rows = TF_Dim(weight, 0), columns = TF_Dim(weight, 1), size = rows * columns;
    const float* from = dataOf(weight);
    if (columns % lanes == 0 && areBrainFloats(from, size)) return fill<BrainFloat>(from, size, call.output({rows, columns / 2}, int32));
#if ESPALIER_FLOAT16
    if (columns % lanes == 0 && areFloat16(from, size)) return fill<Float16>(from, size, call.output({rows, columns / 2, 1}, int32));
#endif
    call.output({0, 0}, int32);
  }

  template <class Entry>
  static void fill(const float* from, int64_t size, float* output) {
    Entry* to = reinterpret_cast<Entry*>(output);
    if (to) inPieces(size, 1 << 16, [&](int64_t first, int64_t last) { convert(from + first, last - first, to + first); });
  }
};

// Reads a weight of `NarrowKernel` for rows of `columns` entries.
bool narrowWeight(const TF_Tensor* weight, int64_t rows, int64_t columns, StoredWeight& to) {
  const void* entries = TF_TensorData(weight);
  if (isMatrix(weight)) to.brainFloats = static_cast<const BrainFloat*>(entries);
#if ESPALIER_FLOAT16
  else to.float16 = static_cast<const Float16*>(entries);
#else
  else return false;
#endif
  return TF_NumDims(weight) >= 2 && TF_Dim(weight, 0) == rows && 2 * TF_Dim(weight, 1) == columns;
}

// As `FewRowsKernel`, for a weight in 16 bits.
struct FewNarrowRowsKernel {
  bool biased;

  explicit FewNarrowRowsKernel(TF_OpKernelConstruction* from) : biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *bias;
    if (!call.inputs({&x, &weight, &bias})) return;
    StoredWeight stored;
    const bool fits = isMatrix(x) && TF_Dim(x, 1) > 0 && narrowWeight(weight, TF_Dim(weight, 0), TF_Dim(x, 1), stored) &&
                      (!biased || sizeOf(bias) == TF_Dim(weight, 0));
    if (!call.require(fits, "A product of few rows takes x [N, D], a weight [R, D / 2] of pairs and a bias [R].")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1), columns = TF_Dim(weight, 0);
    float* output = call.output({rows, columns});
    if (!output) return;
    FewRows{dataOf(x), size, rows, size, stored, columns, biased ? dataOf(bias) : nullptr, output, columns}.run();
  }
};

}  // namespace
