// TensorFlow kernels for training, with products on the units for 16-bit operands.

#pragma once

#include <cstdint>

#include "../bf16/bf16-correlation.h"
#include "../bf16/bf16-divergence.h"
#include "../bf16/bf16-mlp-backward.h"
#include "bf16-inputs.h"
#include "call.h"

#if ESPALIER_BF16

namespace {

// a [N, R] and b [N, C] to a'b [R, C].
struct Bf16CorrelationKernel {
  int units;

  explicit Bf16CorrelationKernel(TF_OpKernelConstruction* from) : units(intOf(from, "units")) {}

  void compute(Call& call) const {
    const TF_Tensor *a, *b;
    if (!call.inputs({&a, &b})) return;
    const bool fits = isMatrix(a) && isMatrix(b) && TF_Dim(a, 0) == TF_Dim(b, 0) && sizeOf(a) > 0 && sizeOf(b) > 0;
    if (!call.require(fits, "A product of columns takes two matrices with the same number of rows.")) return;
    float* output = call.output({TF_Dim(a, 1), TF_Dim(b, 1)});
    if (!output) return;
    Bf16Correlation{unitsFor(units), dataOf(a), dataOf(b), TF_Dim(a, 0), TF_Dim(a, 1), TF_Dim(b, 1), output}.run();
  }
};

// Final states of a model and of the dense one, [N, D] each, through a packed head of `columns` entries to divergences [N]. With `graded`,
// also the gradient of their sum times `scale` with respect to the states [N, D]. `transposed` is the packed transpose of the head.
struct Bf16DivergenceKernel {
  int units, columns;
  bool biased, graded;
  float cap, scale;

  explicit Bf16DivergenceKernel(TF_OpKernelConstruction* from)
      : units(intOf(from, "units")),
        columns(intOf(from, "columns")),
        biased(intOf(from, "biased") != 0),
        graded(intOf(from, "graded") != 0),
        cap(floatOf(from, "cap")),
        scale(floatOf(from, "scale")) {}

  void compute(Call& call) const {
    const TF_Tensor *own, *dense, *head, *transposed, *bias;
    if (!call.inputs({&own, &dense, &head, &transposed, &bias})) return;
    bool fits = isMatrix(own) && isMatrix(dense) && sizeOf(own) == sizeOf(dense) && columns > 0 && fitsWeight(head, columns, TF_Dim(own, 1));
    fits = fits && (!graded || fitsWeight(transposed, TF_Dim(own, 1), columns)) && (!biased || sizeOf(bias) == columns);
    if (!call.require(fits, "A divergence: the packed head does not fit the states.")) return;
    const int64_t rows = TF_Dim(own, 0), size = TF_Dim(own, 1);
    float* losses = call.output({rows});
    float* gradient = losses ? call.output({graded ? rows : 0, size}) : nullptr;
    if (!losses || (graded && !gradient)) return;
    Bf16Divergence{unitsFor(units), {dataOf(own), size, nullptr, nullptr, nullptr}, {dataOf(dense), size, nullptr, nullptr, nullptr}, rows, columns,
                   {packedWeight(head)}, {packedWeight(transposed)}, biased ? dataOf(bias) : nullptr, cap, scale, losses, graded ? gradient : nullptr}
        .run();
  }
};

// The output gradient of an MLP with a norm [N, D], the norm's input [N, D], the output of `EspalierKeptBf16Mlp`, and packed transposed
// weights (down, activated, and if `gated` the other) to gradients with respect to source, norm and the three weights as stored.
struct Bf16MlpBackwardKernel {
  Norm norm;
  Activation activation;
  int units, neurons;
  bool weighted, gated;

  explicit Bf16MlpBackwardKernel(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0},
        activation(static_cast<Activation>(intOf(from, "activation"))),
        units(intOf(from, "units")),
        neurons(intOf(from, "neurons")),
        weighted(intOf(from, "weighted") != 0),
        gated(intOf(from, "gated") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *gradient, *source, *normWeight, *kept, *down, *active, *other;
    if (!call.inputs({&gradient, &source, &normWeight, &kept, &down, &active, &other})) return;
    const int64_t rows = TF_Dim(source, 0), size = TF_Dim(source, 1);
    const bool fits = isMatrix(source) && isMatrix(gradient) && sizeOf(gradient) == sizeOf(source) && (!weighted || sizeOf(normWeight) == size) &&
                      sizeOf(kept) * 2 == KeptNeurons::halves(rows, neurons) && fitsWeight(down, neurons, size, 1) && fitsWeight(active, size, neurons, 1) &&
                      (!gated || fitsWeight(other, size, neurons, 1));
    if (!call.require(fits, "The backward pass of an MLP: gradient, kept neurons and packed weights do not fit its rows.")) return;
    float *bySource = call.output({rows, size}), *byWeight = bySource ? call.output({size}) : nullptr, *byBias = byWeight ? call.output({size}) : nullptr;
    float *byDown = byBias ? call.output({size, neurons}) : nullptr, *byActive = byDown ? call.output({neurons, size}) : nullptr;
    float* byOther = byActive ? call.output({gated ? neurons : 0, size}) : nullptr;
    if (!byActive || (gated && !byOther)) return;
    const KeptNeurons neuronsKept{const_cast<Bf16*>(reinterpret_cast<const Bf16*>(wordsOf(kept))), neurons};
    Bf16MlpBackward{unitsFor(units), norm, activation, rows, size, neurons, dataOf(gradient), dataOf(source), weighted ? dataOf(normWeight) : nullptr,
                    neuronsKept, {packedWeight(down)}, {packedWeight(active)}, {packedWeight(other)}, gated, bySource, byWeight, byBias, byDown, byActive, byOther}
        .run();
  }
};

}  // namespace

#endif
