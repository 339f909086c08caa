// TensorFlow kernels for backward passes of norms, neurons and attention in float32.

#pragma once

#include <cstdint>

#include "../activation.h"
#include "../attention.h"
#include "../bf16/bf16-attention.h"
#include "../norm.h"
#include "../threads.h"
#include "attention-kernels.h"
#include "call.h"

namespace {

// x [N, D], weight [D] (ignored if `weighted` is 0) and the norm's output gradient [N, D] to gradients with respect to x [N, D], weight [D]
// and bias [D].
struct NormBackwardKernel {
  Norm norm;
  bool weighted;

  explicit NormBackwardKernel(TF_OpKernelConstruction* from)
      : norm{floatOf(from, "epsilon"), floatOf(from, "divisor"), intOf(from, "centred") != 0}, weighted(intOf(from, "weighted") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *weight, *gradient;
    if (!call.inputs({&x, &weight, &gradient})) return;
    const bool fits = isMatrix(x) && sizeOf(gradient) == sizeOf(x) && (!weighted || sizeOf(weight) == TF_Dim(x, 1));
    if (!call.require(fits, "A norm's gradient must have its shape, and its weights be as many as its columns.")) return;
    const int64_t rows = TF_Dim(x, 0), size = TF_Dim(x, 1);
    float* byX = call.output({rows, size});
    float* byWeight = byX ? call.output({size}) : nullptr;
    float* byBias = byWeight ? call.output({size}) : nullptr;
    if (byBias) NormBackward{norm, dataOf(x), weighted ? dataOf(weight) : nullptr, dataOf(gradient), rows, size, byX, byWeight, byBias}.run();
  }
};

// gate, up and the neurons' gradient, [N, I] each, to gradients with respect to gate and up, and the neurons, [N, I] each. Without a gate,
// pass the ups as `gate`; the gradient with respect to up then has no rows.
struct NeuronsBackwardKernel {
  Activation activation;
  bool gated;

  explicit NeuronsBackwardKernel(TF_OpKernelConstruction* from)
      : activation(static_cast<Activation>(intOf(from, "activation"))), gated(intOf(from, "gated") != 0) {}

  void compute(Call& call) const {
    const TF_Tensor *gate, *up, *gradient;
    if (!call.inputs({&gate, &up, &gradient})) return;
    const bool fits = isMatrix(gate) && sizeOf(up) == sizeOf(gate) && sizeOf(gradient) == sizeOf(gate);
    if (!call.require(fits, "Gate, up and the gradient by neurons must be equal in shape.")) return;
    const int64_t rows = TF_Dim(gate, 0), width = TF_Dim(gate, 1);
    float* byGate = call.output({rows, width});
    float* byUp = byGate ? call.output({gated ? rows : 0, width}) : nullptr;
    float* neurons = byUp || !gated ? call.output({rows, width}) : nullptr;
    if (!byGate || !neurons) return;
    const float *gates = dataOf(gate), *ups = gated ? dataOf(up) : nullptr, *outer = dataOf(gradient);
    inPieces(rows * width, 1 << 14, [&](int64_t first, int64_t last) {
      neuronsBackward(activation, gates + first, ups ? ups + first : nullptr, outer + first, last - first, byGate + first,
                      ups ? byUp + first : nullptr, neurons + first);
    });
  }
};

// projected [B*T, (H + 2K) d], cosine and sine [T, rotated / 2], and the attention's output gradient [B*T, H d] to the gradient with
// respect to projected. Products use `units`, or float32 if these are 0.
struct AttentionBackwardKernel {
  int heads, keyValueHeads, window, units;
  float cap;

  explicit AttentionBackwardKernel(TF_OpKernelConstruction* from)
      : heads(intOf(from, "heads")),
        keyValueHeads(intOf(from, "key_value_heads")),
        window(intOf(from, "window")),
        units(intOf(from, "units")),
        cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *projected, *cosine, *sine, *gradient;
    if (!call.inputs({&projected, &cosine, &sine, &gradient})) return;
    const AttentionSizes sizes{projected, cosine, sine, heads, keyValueHeads};
    if (!call.require(sizes.fit() && isMatrix(gradient) && sizeOf(gradient) == sizes.rows() * heads * sizes.headSize(),
                      "Attention backward: the shapes of projections, rotary tables and gradient do not fit the heads."))
      return;
    float* output = call.output({sizes.rows(), TF_Dim(projected, 1)});
    if (!output) return;
    const AttentionBackward backward{sizes.attention(window, nullptr, cap), dataOf(gradient), output};
#if ESPALIER_BF16
    if (units != noUnits) return Bf16AttentionBackward{backward, unitsFor(units)}.run();
#endif
    backward.run();
  }
};

}  // namespace
