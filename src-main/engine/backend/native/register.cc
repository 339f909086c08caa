// Fused decoder operations for TensorFlow on a CPU: one pass over memory instead of many. Setup compiles this file for the local processor.
// It is loaded like an addon, and `fused.ts` calls the operations.

#include <initializer_list>

#include "kernels/attention-kernels.h"
#include "kernels/backward-kernels.h"
#include "kernels/bf16-kernels.h"
#include "kernels/bf16-mlp-kernels.h"
#include "kernels/bf16-training-kernels.h"
#include "kernels/block-kernels.h"
#include "kernels/call.h"
#include "kernels/decode-kernel.h"
#include "kernels/narrow-kernels.h"
#include "kernels/node-functions.h"
#include "kernels/row-kernels.h"
#include "kernels/tensorflow-c.h"
#include "kernels/units-kernel.h"

namespace {

void unknownShape(TF_ShapeInferenceContext* context, TF_Status* status) { TF_ShapeInferenceContextSetUnknownShape(context, status); }

template <class Kernel>
bool registerKernel(const char* name, std::initializer_list<const char*> inputs, std::initializer_list<const char*> attributes,
                    std::initializer_list<const char*> outputs = {"output: float"}) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(definition, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(definition, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(definition, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, unknownShape);
  TF_RegisterOpDefinition(definition, status);
  const bool defined = TF_GetCode(status) == 0;
  if (defined) {
    TF_KernelBuilder* builder = TF_NewKernelBuilder(
        name, "CPU", [](TF_OpKernelConstruction* from) -> void* { return new Kernel(from); },
        [](void* kernel, TF_OpKernelContext* context) {
          Call call(context);
          static_cast<const Kernel*>(kernel)->compute(call);
        },
        [](void* kernel) { delete static_cast<Kernel*>(kernel); });
    TF_RegisterKernelBuilder(name, builder, status);
  }
  const bool registered = defined && TF_GetCode(status) == 0;
  TF_DeleteStatus(status);
  return registered;
}

bool registerBf16() {
#if ESPALIER_BF16
  return registerKernel<PackKernel>("EspalierPack", {"weight: float"}, {"split: int", "transposed: int", "factored: int", "factor: float"}, {"output: int32"}) &&
         registerKernel<ExactKernel>("EspalierExact", {"weight: float"}, {"factored: int", "factor: float"}) &&
         registerKernel<Bf16ProductKernel>(
             "EspalierBf16Product", {"x: float", "norm_weight: float", "norm_bias: float", "weight: int32", "bias: float", "add: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int", "parts: int",
              "columns: int", "normed: int", "biased: int", "adds: int", "factored: int", "factor: float"}) &&
         registerKernel<Bf16MlpKernel>(
             "EspalierBf16Mlp",
             {"x: float", "source: float", "norm_weight: float", "norm_bias: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float",
              "down: int32", "down_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int", "parts: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int", "down_biased: int"}) &&
         registerKernel<KeptBf16MlpKernel>(
             "EspalierKeptBf16Mlp",
             {"x: float", "source: float", "norm_weight: float", "norm_bias: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float",
              "down: int32", "down_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int", "parts: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int", "down_biased: int"},
             {"output: float", "kept: int32"}) &&
         registerKernel<SummedBf16MlpKernel>(
             "EspalierSummedBf16Mlp",
             {"x: float", "source: float", "norm_weight: float", "norm_bias: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float",
              "down: int32", "down_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int", "parts: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int", "down_biased: int",
              "tokens: int"},
             {"output: float", "sums: float"}) &&
         registerKernel<Bf16MlpBackwardKernel>(
             "EspalierBf16MlpBackward",
             {"gradient: float", "source: float", "norm_weight: float", "kept: int32", "down: int32", "active: int32", "other: int32"},
             {"epsilon: float", "divisor: float", "centred: int", "weighted: int", "units: int", "activation: int", "neurons: int", "gated: int"},
             {"by_source: float", "by_norm: float", "by_norm_bias: float", "by_down: float", "by_active: float", "by_other: float"}) &&
         registerKernel<Bf16NeuronsKernel>(
             "EspalierBf16Neurons",
             {"source: float", "norm_weight: float", "norm_bias: float", "gate: int32", "gate_bias: float", "up: int32", "up_bias: float"},
             {"epsilon: float", "divisor: float", "scale: float", "centred: int", "weighted: int", "shifted: int", "units: int", "parts: int",
              "activation: int", "neurons: int", "normed: int", "gated: int", "gate_biased: int", "up_biased: int"}) &&
         registerKernel<Bf16ExponentsKernel>("EspalierBf16Exponents", {"x: float", "head: int32", "bias: float"},
                                             {"units: int", "parts: int", "columns: int", "biased: int", "cap: float"}) &&
         registerKernel<Bf16CorrelationKernel>("EspalierBf16Correlation", {"a: float", "b: float"}, {"units: int"}) &&
         registerKernel<Bf16DivergenceKernel>("EspalierBf16Divergence", {"own: float", "dense: float", "head: int32", "transposed: int32", "bias: float"},
                                              {"units: int", "columns: int", "biased: int", "graded: int", "cap: float", "scale: float"},
                                              {"losses: float", "gradient: float"});
#else
  return true;
#endif
}

bool registerAll() {
  return registerBf16() && registerKernel<UnitsKernel>("EspalierUnits", {}, {}) &&
         registerKernel<AttentionKernel>("EspalierAttention", {"projected: float", "cosine: float", "sine: float"},
                                         {"heads: int", "key_value_heads: int", "window: int", "units: int", "split: int", "cap: float"}) &&
         registerKernel<NormKernel>("EspalierNorm", {"x: float", "weight: float", "bias: float"},
                                    {"epsilon: float", "divisor: float", "centred: int", "weighted: int", "biased: int"}) &&
         registerKernel<NormBackwardKernel>("EspalierNormBackward", {"x: float", "weight: float", "gradient: float"},
                                            {"epsilon: float", "divisor: float", "centred: int", "weighted: int"},
                                            {"by_x: float", "by_weight: float", "by_bias: float"}) &&
         registerKernel<NeuronsBackwardKernel>("EspalierNeuronsBackward", {"gate: float", "up: float", "gradient: float"},
                                               {"activation: int", "gated: int"}, {"by_gate: float", "by_up: float", "neurons: float"}) &&
         registerKernel<AttentionBackwardKernel>("EspalierAttentionBackward",
                                                 {"projected: float", "cosine: float", "sine: float", "gradient: float"},
                                                 {"heads: int", "key_value_heads: int", "window: int", "units: int", "cap: float"}) &&
         registerKernel<GateKernel>("EspalierGate", {"gate: float", "up: float"}, {}) &&
         registerKernel<ExponentsKernel>("EspalierExponents", {"logits: float"}, {}) &&
         registerKernel<CompareLogitsKernel>("EspalierCompareLogits", {"dense: float", "own: float"}, {"count: int"}) &&
         registerKernel<DistanceKernel>("EspalierDistance", {"a: float", "b: float"}, {}) &&
         registerKernel<ColumnsKernel>("EspalierColumns", {"x: float"}, {"tokens: int", "squared: int"}) &&
         registerKernel<FewRowsKernel>("EspalierFewRows", {"x: float", "weight: float", "bias: float"}, {"biased: int"}) &&
         registerKernel<NarrowKernel>("EspalierNarrow", {"weight: float"}, {"factored: int", "factor: float"}, {"output: int32"}) &&
         registerKernel<GroupKernel>("EspalierGroup", {"weight: float", "types: int32", "factors: float", "blocks: count * int32"}, {"count: int >= 1"},
                                     {"output: int32"}) &&
         registerKernel<FewNarrowRowsKernel>("EspalierFewNarrowRows", {"x: float", "weight: int32", "bias: float"}, {"biased: int"}) &&
         registerKernel<PlacedAttentionKernel>(
             "EspalierPlacedAttention",
             {"projected: float", "cosine: float", "sine: float", "rows: int32", "slots: int32", "keys: float", "values: float"},
             {"heads: int", "key_value_heads: int", "window: int", "cap: float"}) &&
         registerKernel<DecodeKernel>(
             "EspalierDecode",
             {"x: float", "steps: int32", "numbers: float", "lists: int32", "rows: int32", "slots: int32", "tensors: count * float",
              "halves: packed * int32"},
             {"count: int >= 0", "packed: int >= 0", "heads: int", "key_value_heads: int", "head_size: int", "activation: int",
              "gated_queries: int", "cap: float"});
}

}  // namespace

// The entry point that Node calls on an addon. Operations are registered once per process, functions are exported to each caller.
extern "C" __attribute__((visibility("default"))) void* napi_register_module_v1(void* env, void* exports) {
  static const bool registered = registerAll();
  return registered && exportFunctions(env, exports) ? exports : nullptr;
}
