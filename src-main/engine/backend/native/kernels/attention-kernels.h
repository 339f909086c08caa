// TensorFlow kernels for attention.

#pragma once

#include <cstdint>
#include <vector>

#include "../attention.h"
#include "../bf16/bf16-attention.h"
#include "../bf16/bf16-units.h"
#include "call.h"
#include "placed-rows.h"

namespace {

// The sizes of one attention, read from its tensors.
struct AttentionSizes {
  const TF_Tensor *projected, *cosine, *sine;
  int heads, keyValueHeads;

  int tokens() const { return static_cast<int>(TF_Dim(cosine, 0)); }
  int rotated() const { return static_cast<int>(2 * TF_Dim(cosine, 1)); }
  int64_t rows() const { return TF_Dim(projected, 0); }
  int headSize() const { return static_cast<int>(TF_Dim(projected, 1) / (heads + 2 * keyValueHeads)); }

  bool fit() const {
    return isMatrix(projected) && isMatrix(cosine) && sizeOf(cosine) == sizeOf(sine) && heads > 0 && keyValueHeads > 0 &&
           heads % keyValueHeads == 0 && TF_Dim(projected, 1) % (heads + 2 * keyValueHeads) == 0 && tokens() > 0 && rows() % tokens() == 0 &&
           rotated() <= headSize();
  }

  Attention attention(int window, float* output, float cap) const {
    return {heads, keyValueHeads, headSize(), tokens(), static_cast<int>(rows() / tokens()), window, rotated(), dataOf(projected),
            dataOf(cosine), dataOf(sine), output, cap};
  }
};

// projected [B*T, (H + 2K) d], cosine and sine [T, rotated / 2] to [B*T, H d]. Both products use `units`, with split operands on request.
// They are float32 if units are 0 or scores are capped.
struct AttentionKernel {
  int heads, keyValueHeads, window, units;
  bool split;
  float cap;

  explicit AttentionKernel(TF_OpKernelConstruction* from)
      : heads(intOf(from, "heads")),
        keyValueHeads(intOf(from, "key_value_heads")),
        window(intOf(from, "window")),
        units(intOf(from, "units")),
        split(intOf(from, "split") != 0),
        cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *projected, *cosine, *sine;
    if (!call.inputs({&projected, &cosine, &sine})) return;
    const AttentionSizes sizes{projected, cosine, sine, heads, keyValueHeads};
    if (!call.require(sizes.fit(), "Attention: the shapes of projections and rotary tables do not fit the heads.")) return;
    float* output = call.output({sizes.rows(), static_cast<int64_t>(heads) * sizes.headSize()});
    if (!output) return;
    const Attention attention = sizes.attention(window, output, cap);
#if ESPALIER_BF16
    if (units != noUnits && cap == 0) {
      if (split) return Bf16Attention<true>(attention, unitsFor(units)).run();
      return Bf16Attention<false>(attention, unitsFor(units)).run();
    }
#endif
    attend(attention);
  }
};

// projected [N, (H + 2K) d], rotary tables of its rows [N, rotated / 2], the rows' places, and the key and value caches [K, capacity, d],
// which are written in place, to [N, H d].
struct PlacedAttentionKernel {
  int heads, keyValueHeads, window;
  float cap;

  explicit PlacedAttentionKernel(TF_OpKernelConstruction* from)
      : heads(intOf(from, "heads")), keyValueHeads(intOf(from, "key_value_heads")), window(intOf(from, "window")), cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *projected, *cosine, *sine, *rows, *slots, *keys, *values;
    if (!call.inputs({&projected, &cosine, &sine, &rows, &slots, &keys, &values})) return;
    std::vector<PlacedRow> placed;
    bool fits = isMatrix(projected) && isMatrix(cosine) && sizeOf(cosine) == sizeOf(sine) && TF_NumDims(keys) == 3 &&
                sizeOf(keys) == sizeOf(values) && placeRows(rows, slots, placed);
    if (!call.require(fits, "Attention in a cache: tables, rows or slots do not fit.")) return;
    const int64_t count = TF_Dim(projected, 0), size = TF_Dim(keys, 2), half = TF_Dim(cosine, 1);
    fits = heads > 0 && keyValueHeads > 0 && heads % keyValueHeads == 0 && TF_Dim(keys, 0) == keyValueHeads && 2 * half <= size &&
           TF_Dim(projected, 1) == (heads + 2 * keyValueHeads) * size && TF_Dim(cosine, 0) == count &&
           static_cast<int64_t>(placed.size()) == count && withinCapacity(placed, static_cast<int>(TF_Dim(keys, 1)));
    if (!call.require(fits, "Attention in a cache: the cache does not fit the heads or positions.")) return;
    float* output = call.output({count, heads * size});
    if (!output) return;
    const Slots cached{const_cast<float*>(dataOf(keys)), const_cast<float*>(dataOf(values)), static_cast<int>(TF_Dim(keys, 1)),
                       static_cast<int>(size)};
    const Attention attention{heads, keyValueHeads, static_cast<int>(size), static_cast<int>(count), 1, window, static_cast<int>(2 * half),
                              dataOf(projected), dataOf(cosine), dataOf(sine), output, cap};
    attendPlaced(attention, cached, placed);
  }
};

}  // namespace
