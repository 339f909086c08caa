// TensorFlow kernels for operations on rows.

#pragma once

#include <algorithm>
#include <cstdint>

#include "../activation.h"
#include "../few-rows.h"
#include "../logits.h"
#include "../norm.h"
#include "../row-sums.h"
#include "../threads.h"
#include "call.h"

namespace {

// x [N, D] to [N, D]. weight and bias are [D], ignored if `weighted` or `biased` is 0.
struct NormKernel {
  Norm norm;
  bool weighted, biased;

  explicit NormKernel(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0},
        weighted(intOf(from, "weighted") != 0),
        biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *bias;
    if (!call.inputs({&x, &weight, &bias})) return;
    if (!call.require(isMatrix(x), "A norm takes a matrix.")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
    const bool fits = (!weighted || sizeOf(weight) == size) && (!biased || sizeOf(bias) == size);
    if (!call.require(fits, "A norm's weights must be as many as its columns.")) return;
    float* output = call.output({rows, size});
    if (!output) return;
    const float *from = dataOf(x), *scales = weighted ? dataOf(weight) : nullptr, *shifts = biased ? dataOf(bias) : nullptr;
    inPieces(rows, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++)
        normalizeRow(norm, from + row * size, scales, shifts, output + row * size, size);
    });
  }
};

// gate and up [N, I] to [N, I].
struct GateKernel {
  explicit GateKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor *gate, *up;
    if (!call.inputs({&gate, &up})) return;
    if (!call.require(isMatrix(gate) && isMatrix(up) && sizeOf(gate) == sizeOf(up), "Gate and up must be equal in shape.")) return;
    float* output = call.output({TF_Dim(gate, 0), TF_Dim(gate, 1)});
    if (!output) return;
    const float *gates = dataOf(gate), *ups = dataOf(up);
    inPieces(sizeOf(gate), 1 << 15, [&](int64_t first, int64_t last) {
      gateNeurons(gates + first, ups + first, output + first, last - first);
    });
  }
};

// logits [N, V] to [N, 2]: the largest logit of each row, and the sum of exponentials relative to it.
struct ExponentsKernel {
  explicit ExponentsKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor* logits;
    if (!call.inputs({&logits}) || !call.require(isMatrix(logits), "Sums of exponents take a matrix.")) return;
    const int64_t rows = TF_Dim(logits, 0), size = TF_Dim(logits, 1);
    float* output = call.output({rows, 2});
    if (!output) return;
    const float* from = dataOf(logits);
    inPieces(rows, 32, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) sumExponents(from + row * size, size, output + 2 * row);
    });
  }
};

// Logits of a dense model and of another one, [N, C] each, to [N, 5 + 2 * count]: the results of `compareLogits`, then the other model's
// `count` largest logits and their columns. Pass the same tensor twice to compare a model with itself.
struct CompareLogitsKernel {
  int count;

  explicit CompareLogitsKernel(TF_OpKernelConstruction* from) : count(intOf(from, "count")) {}

  void compute(Call& call) const {
    const TF_Tensor *dense, *own;
    if (!call.inputs({&dense, &own})) return;
    const bool fits = isMatrix(dense) && isMatrix(own) && TF_Dim(dense, 0) == TF_Dim(own, 0) && TF_Dim(dense, 1) == TF_Dim(own, 1) &&
                      count > 0 && count <= TF_Dim(own, 1) && TF_Dim(own, 1) <= 1 << 24;
    if (!call.require(fits, "Logits are compared in two matrices of one shape, of at most 16777216 columns.")) return;
    const int64_t rows = TF_Dim(own, 0), size = TF_Dim(own, 1), width = 5 + 2 * count;
    float* output = call.output({rows, width});
    if (!output) return;
    const float *from = dataOf(dense), *other = dataOf(own);
    inPieces(rows, 16, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) {
        const float* logits = other + row * size;
        float* to = output + row * width;
        if (from == other) {
          sumExponents(logits, size, to);
          std::copy(to, to + 2, to + 2);
          to[4] = 0;
        } else {
          compareLogits(from + row * size, logits, size, to);
        }
        takeLargest(logits, size, count, to + 5);
      }
    });
  }
};

// a and b [N, D] to [N, 2]: |a - b| / |b| and the cosine of each pair of rows.
struct DistanceKernel {
  explicit DistanceKernel(TF_OpKernelConstruction*) {}

  void compute(Call& call) const {
    const TF_Tensor *a, *b;
    if (!call.inputs({&a, &b})) return;
    const bool fits = isMatrix(a) && isMatrix(b) && TF_Dim(a, 0) == TF_Dim(b, 0) && TF_Dim(a, 1) == TF_Dim(b, 1);
    if (!call.require(fits, "A distance takes two matrices of one shape.")) return;
    const int64_t rows = TF_Dim(a, 0), size = TF_Dim(a, 1);
    float* output = call.output({rows, 2});
    if (!output) return;
    const float *left = dataOf(a), *right = dataOf(b);
    inPieces(rows, 64, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; row++) compareRows(left + row * size, right + row * size, size, output + 2 * row);
    });
  }
};

// x [B * tokens, I] to [B, I]: sums of |x| or x squared over each sample's rows.
struct ColumnsKernel {
  int tokens;
  bool squared;

  explicit ColumnsKernel(TF_OpKernelConstruction* from) : tokens(intOf(from, "tokens")), squared(intOf(from, "squared") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor* x;
    if (!call.inputs({&x}) || !call.require(isMatrix(x) && tokens > 0 && TF_Dim(x, 0) % tokens == 0, "Columns take whole samples of rows.")) return;
    const int64_t samples = TF_Dim(x, 0) / tokens, columns = TF_Dim(x, 1), piece = 256, pieces = (columns + piece - 1) / piece;
    float* output = call.output({samples, columns});
    if (!output) return;
    const float* from = dataOf(x);
    Pool::shared().run(static_cast<int>(samples * pieces), [&](int task) {
      const int64_t sample = task / pieces, first = task % pieces * piece;
      sumColumns(from + sample * tokens * columns, tokens, columns, first, std::min(columns, first + piece), squared,
                 output + sample * columns);
    });
  }
};

// x [N, D] and weight [R, D] to [N, R]. bias is [R], ignored if `biased` is 0.
struct FewRowsKernel {
  bool biased;

  explicit FewRowsKernel(TF_OpKernelConstruction* from) : biased(intOf(from, "biased") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *bias;
    if (!call.inputs({&x, &weight, &bias})) return;
    const bool fits = isMatrix(x) && isMatrix(weight) && TF_Dim(x, 1) == TF_Dim(weight, 1) && TF_Dim(x, 1) > 0 &&
                      (!biased || sizeOf(bias) == TF_Dim(weight, 0));
    if (!call.require(fits, "A product of few rows takes x [N, D], a weight [R, D] and a bias [R].")) return;
    const int64_t rows = TF_Dim(x, 0), columns = TF_Dim(weight, 0);
    float* output = call.output({rows, columns});
    if (!output) return;
    const int64_t size = TF_Dim(x, 1);
    FewRows{dataOf(x), size, rows, size, {dataOf(weight)}, columns, biased ? dataOf(bias) : nullptr, output, columns}.run();
  }
};

}  // namespace
