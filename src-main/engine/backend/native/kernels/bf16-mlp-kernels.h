// TensorFlow kernels for MLPs with packed weights.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "../bf16/bf16-mlp.h"
#include "bf16-inputs.h"
#include "call.h"

#if ESPALIER_BF16

namespace {

// The attributes of an MLP, except its norm and weights.
struct MlpWords {
  Activation activation;
  bool gated, gateBiased, upBiased;

  explicit MlpWords(TF_OpKernelConstruction* from)
      : activation(static_cast<Activation>(intOf(from, "activation"))),
        gated(intOf(from, "gated") != 0),
        gateBiased(intOf(from, "gate_biased") != 0),
        upBiased(intOf(from, "up_biased") != 0) {}
};

// Inputs that the kernels of an MLP with packed weights share.
struct NeuronInputs {
  const TF_Tensor *normWeight, *normBias, *gate, *gateBias, *up, *upBias;
};

// Attributes and checks that these kernels share.
struct Bf16MlpStart {
  PartNorm norm;
  MlpWords words;
  int units, neurons, parts;
  bool normed;

  explicit Bf16MlpStart(TF_OpKernelConstruction* from)
      : norm(from),
        words(from),
        units(intOf(from, "units")),
        neurons(intOf(from, "neurons")),
        parts(intOf(from, "parts")),
        normed(intOf(from, "normed") != 0) {}

  bool fits(const TF_Tensor* source, const NeuronInputs& in) const {
    const int64_t size = TF_Dim(source, 1);
    return fitsWeight(in.gate, neurons, size, parts) && fitsWeight(in.up, neurons, size, parts) &&
           (!normed || norm.fits(source, in.normWeight, in.normBias)) && (!words.gateBiased || sizeOf(in.gateBias) == neurons) &&
           (!words.upBiased || sizeOf(in.upBias) == neurons);
  }

  // Stores the ups' weight in `ups`, which must outlive the result.
  Bf16Mlp with(const TF_Tensor* source, const NeuronInputs& in, PackedWeight& ups) const {
    PackedWeight gates = packedWeight(in.gate);
    if (!gates.low != !ups.low) (gates.low ? ups : gates).low = zeros(ups.columnTiles * ups.depth * tileSize);
    return {unitsFor(units), norm.rowsIn(source, in.normWeight, in.normBias, normed), TF_Dim(source, 0), neurons, words.activation, words.gated,
            words.gateBiased ? dataOf(in.gateBias) : nullptr, words.upBiased ? dataOf(in.upBias) : nullptr,
            words.gated ? Bf16Panels{gates, &ups} : Bf16Panels{ups}, {}, parts};
  }

 private:
  // A rounding remainder of zeros, for a weight that is exact in halves beside one that is not.
  static const Bf16* zeros(size_t count) {
    static thread_local std::vector<Bf16> memory;
    if (memory.size() < count) memory.resize(count);
    return memory.data();
  }
};

// An MLP of `neurons` with packed weights: reads source [N, D] and adds its output to x [N, D]. down [D, I] and its bias follow the inputs
// above. Without a gate, pass `up` twice. Returns [N, D].
struct Bf16MlpKernel {
  Bf16MlpStart start;
  bool downBiased;

  explicit Bf16MlpKernel(TF_OpKernelConstruction* from) : start(from), downBiased(intOf(from, "down_biased") != 0) {}

  void compute(Call& call) const {
    run(call, [](Bf16Mlp&) { return true; });
  }

  // `prepare` receives the MLP before it runs, and may add outputs. Returns the MLP that ran, if it did.
  template <class Prepare>
  std::optional<Bf16Mlp> run(Call& call, const Prepare& prepare) const {
    const TF_Tensor *x, *source, *down, *downBias;
    NeuronInputs in;
    if (!call.inputs({&x, &source, &in.normWeight, &in.normBias, &in.gate, &in.gateBias, &in.up, &in.upBias, &down, &downBias})) return {};
    if (!call.require(isMatrix(x) && isMatrix(source) && start.neurons > 0, "An MLP of halves takes matrices.")) return {};
    const int64_t rows = TF_Dim(x, 0), hidden = TF_Dim(x, 1);
    const bool fits = TF_Dim(source, 0) == rows && start.fits(source, in) && fitsWeight(down, hidden, start.neurons, start.parts) &&
                      (!downBiased || sizeOf(downBias) == hidden);
    if (!call.require(fits, "An MLP of halves: its packed weights do not fit its rows.")) return {};
    float* output = call.output({rows, hidden});
    if (!output) return {};
    PackedWeight ups = packedWeight(in.up);
    Bf16Mlp mlp = start.with(source, in, ups);
    mlp.down = {packedWeight(down)};
    mlp.out = {downBiased ? dataOf(downBias) : nullptr, dataOf(x), start.norm.scale, hidden, output, mlp.rows};
    if (!prepare(mlp)) return {};
    mlp.run();
    return mlp;
  }
};

// The same, and also returns the gates and ups as `KeptNeurons`.
struct KeptBf16MlpKernel {
  Bf16MlpKernel mlp;

  explicit KeptBf16MlpKernel(TF_OpKernelConstruction* from) : mlp(from) {}

  void compute(Call& call) const {
    mlp.run(call, [&](Bf16Mlp& one) {
      one.kept = {reinterpret_cast<Bf16*>(call.output({KeptNeurons::halves(one.rows, one.neurons) / 2}, int32)), one.neurons};
      return one.kept.to != nullptr;
    });
  }
};

// The same, and also returns sums of magnitudes and squares of the neurons over each sample of `tokens` rows, a multiple of 32: [2, samples,
// neurons].
struct SummedBf16MlpKernel {
  Bf16MlpKernel mlp;
  int tokens;

  explicit SummedBf16MlpKernel(TF_OpKernelConstruction* from) : mlp(from), tokens(intOf(from, "tokens")) {}

  void compute(Call& call) const {
    std::vector<float> sums;
    int64_t samples = 0;
    float* output = nullptr;
    const auto ran = mlp.run(call, [&](Bf16Mlp& one) {
      if (!call.require(tokens > 0 && tokens % panelSide == 0 && one.rows % tokens == 0, "Sums over samples: their rows are not a multiple of 32."))
        return false;
      samples = one.rows / tokens;
      sums.resize(NeuronSums::floats(one.rows, one.neurons));
      one.summed = {sums.data(), one.neurons};
      output = call.output({2, samples, one.neurons});
      return output != nullptr;
    });
    if (ran) ran->summed.sumSamples(samples, tokens, output);
  }
};

// The neurons of such an MLP after their activation: source [N, D] to [N, neurons].
struct Bf16NeuronsKernel {
  Bf16MlpStart start;

  explicit Bf16NeuronsKernel(TF_OpKernelConstruction* from) : start(from) {}

  void compute(Call& call) const {
    const TF_Tensor* source;
    NeuronInputs in;
    if (!call.inputs({&source, &in.normWeight, &in.normBias, &in.gate, &in.gateBias, &in.up, &in.upBias})) return;
    const bool fits = isMatrix(source) && start.neurons > 0 && start.fits(source, in);
    if (!call.require(fits, "Neurons of halves: their packed weights do not fit the rows.")) return;
    float* output = call.output({TF_Dim(source, 0), start.neurons});
    if (!output) return;
    PackedWeight ups = packedWeight(in.up);
    start.with(source, in, ups).runNeurons(output);
  }
};

}  // namespace

#endif
