// TensorFlow kernels for weights in 16 bits or in groups, and few rows.

#pragma once

#include <cstdint>

#include "../few-rows.h"
#include "../stored-entries.h"
#include "call.h"
#include "row-factor.h"

namespace {

// A weight [R, C] in 16 bits, two entries per word: bfloat16 as [R, C / 2], else float16 as [R, C / 2, 1]. Returns [0, 0] if both would
// lose precision, or if C does not fill whole vectors, because the rest is summed differently. If the first rows were multiplied by a
// factor, and are bfloat16 numbers without it, returns groups with it: [R / 4, C / 64, words of four groups].
struct NarrowKernel {
  RowFactor factor;

  explicit NarrowKernel(TF_OpKernelConstruction* from) : factor(rowFactorOf(from)) {}

  void compute(Call& call) const {
    const TF_Tensor* weight;
    if (!call.inputs({&weight}) || !requireFactor(call, factor, weight)) return;
    const int64_t rows = TF_Dim(weight, 0), columns = TF_Dim(weight, 1), size = rows * columns;
    const float* from = dataOf(weight);
    if (columns % lanes == 0 && areBrainFloats(from, size)) return fill<BrainFloat>(from, rows, columns, call.output({rows, columns / 2}, int32));
#if ESPALIER_FLOAT16
    if (columns % lanes == 0 && areFloat16(from, size)) return fill<Float16>(from, rows, columns, call.output({rows, columns / 2, 1}, int32));
#endif
    const bool grouped = rows % 4 == 0 && columns % FactoredFours::columns == 0 && areBrainFloats(from, size, factor.rows * columns, factor.by);
    if (grouped) return fillFactored(from, rows, columns, call);
    call.output({0, 0}, int32);
  }

 private:
  void fillFactored(const float* from, int64_t rows, int64_t columns, Call& call) const {
    constexpr int across = FactoredFours::columns;
    const int64_t groups = columns / across, words = sizeof(FactoredFours) / sizeof(float);
    FactoredFours* to = reinterpret_cast<FactoredFours*>(call.output({rows / 4, groups, words}, int32));
    if (!to) return;
    inPieces(rows, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        for (int64_t group = 0; group < groups; group++) {
          float values[across];
          const float* own = from + row * columns + group * across;
          const float by = row < factor.rows ? factor.by : 1;
          divide(own, across, by, values);
          to[row / 4 * groups + group].set(row % 4, by, values);
        }
      }
    });
  }

  template <class Entry>
  static void fill(const float* from, int64_t rows, int64_t columns, float* output) {
    Entry* to = reinterpret_cast<Entry*>(output);
    const int64_t piece = roundUp(1 + (1 << 16) / columns, 4);
    if (to) inPieces(rows, piece, [&](int64_t first, int64_t last) { interleave(from, columns, first, last, to); });
  }
};

// A weight of `GroupKernel` has more words in its last dimension than one of `NarrowKernel`.
bool isGrouped(const TF_Tensor* weight) { return TF_NumDims(weight) == 3 && TF_Dim(weight, 2) > 1; }

int64_t rowsOf(const TF_Tensor* weight) { return TF_Dim(weight, 0) * (isGrouped(weight) ? 4 : 1); }

bool groupedWeight(const TF_Tensor* weight, int64_t rows, int64_t columns, StoredWeight& to) {
  to.groups = TF_TensorData(weight);
  return 4 * TF_Dim(weight, 0) == rows && findForm(TF_Dim(weight, 2), columns, TF_Dim(weight, 1), to.form);
}

// Reads a weight of `NarrowKernel` or `GroupKernel` for rows of `columns` entries.
bool narrowWeight(const TF_Tensor* weight, int64_t rows, int64_t columns, StoredWeight& to) {
  if (isGrouped(weight)) return groupedWeight(weight, rows, columns, to);
  const void* entries = TF_TensorData(weight);
  if (isMatrix(weight)) to.brainFloats = static_cast<const BrainFloat*>(entries);
#if ESPALIER_FLOAT16
  else to.float16 = static_cast<const Float16*>(entries);
#else
  else return false;
#endif
  return TF_NumDims(weight) >= 2 && TF_Dim(weight, 0) == rows && 2 * TF_Dim(weight, 1) == columns;
}

// Like `FewRowsKernel`, for a weight in 16 bits or in groups.
struct FewNarrowRowsKernel {
  bool biased;

  explicit FewNarrowRowsKernel(TF_OpKernelConstruction* from) : biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *bias;
    if (!call.inputs({&x, &weight, &bias})) return;
    StoredWeight stored;
    const int64_t columns = rowsOf(weight);
    const bool fits = isMatrix(x) && TF_Dim(x, 1) > 0 && narrowWeight(weight, columns, TF_Dim(x, 1), stored) && (!biased || sizeOf(bias) == columns);
    if (!call.require(fits, "A product of few rows takes x [N, D], a weight [R, D / 2] of pairs or in groups, and a bias [R].")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
    float* output = call.output({rows, columns});
    if (!output) return;
    FewRows{dataOf(x), size, rows, size, stored, columns, biased ? dataOf(bias) : nullptr, output, columns}.run();
  }
};

}  // namespace
