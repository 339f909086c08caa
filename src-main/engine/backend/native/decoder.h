// Runs parts of the decoder on few rows in one call, because calling an operation per part takes longer than the computation.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "activation.h"
#include "attention.h"
#include "few-rows.h"
#include "norm.h"

namespace {

// A norm and its weights. `there` is false if the part has no norm.
struct StepNorm {
  bool there = false;
  Norm norm{};
  const float *weight = nullptr, *bias = nullptr;

  // Normalizes runs of `group` entries separately, for rows longer than the weights. `to` may equal `from`.
  void run(const float* from, float* to, int64_t size, int64_t group) const {
    for (int64_t at = 0; at < size; at += group) normalizeRow(norm, from + at, weight, bias, to + at, group);
  }
};

// One part, applied to some of the rows.
struct Step {
  bool attends, keepsSource;
  const int32_t* rows;
  int count;
  StepNorm before, after, query, key;
  int64_t querySize, keySize;
  StoredWeight first, gate, second;
  bool gated;
  const float *firstBias, *gateBias, *secondBias;
  // Width of the projections, or number of neurons.
  int64_t inner;
  float scale;
  // MLP only: factors [inner] for the neurons of each row of the step. Null if a row keeps all neurons.
  std::vector<const float*> masks;
  // Attention only: rotary tables indexed by row, and slots indexed by row of the step.
  const float *cosine, *sine;
  int rotated, window;
  std::vector<Slots> slots;
};

// The state that all parts of a call share. `x` [N, D] is updated in place. A parallel MLP reads `source`.
struct Decoder {
  int heads, keyValueHeads, headSize;
  float cap;
  Activation activation;
  bool gatedQueries;
  int64_t hidden;
  float *x, *source;
  std::vector<PlacedRow> rows;

  static int64_t padded(int64_t size) { return roundUp(size, panelColumns); }

  void run(const Step& step) const {
    const int64_t width = padded(hidden), inner = padded(step.inner), mixed = padded(static_cast<int64_t>(heads) * headSize);
    float* normed = scratch<3>(step.count * (2 * width + 2 * inner + 2 * mixed));
    float* projected = normed + step.count * width;
    float* others = projected + step.count * inner;
    for (int i = 0; i < step.count; i++) {
      const float* from = (step.attends ? x : source) + step.rows[i] * hidden;
      float* to = normed + i * width;
      if (step.before.there) step.before.run(from, to, hidden, hidden);
      else std::copy(from, from + hidden, to);
      std::fill(to + hidden, to + width, 0.0f);
    }
    float* out = others + step.count * (inner + 2 * mixed);
    if (step.attends) attend(step, normed, projected, others, others + step.count * mixed, out);
    else feed(step, normed, projected, others, out);
    if (source == x || step.keepsSource) return;
    for (int i = 0; i < step.count; i++) std::copy(x + step.rows[i] * hidden, x + (step.rows[i] + 1) * hidden, source + step.rows[i] * hidden);
  }

 private:
  void attend(const Step& step, const float* normed, float* projected, float* mixed, float* gates, float* out) const {
    const int64_t width = padded(step.inner), mixedSize = static_cast<int64_t>(heads) * headSize, mixedWidth = padded(mixedSize);
    FewRows{normed, padded(hidden), step.count, hidden, step.first, step.inner, step.firstBias, projected, width}.run();
    Attention call{heads, keyValueHeads, headSize, step.count, 1, step.window, step.rotated, projected, step.cosine, step.sine, nullptr, cap};
    const int64_t size = call.rowSize();
    for (int i = 0; i < step.count; i++) {
      // Compacts rows to the stride of plain projections, without gates or padding. Each row is read before anything overwrites it.
      float *from = projected + i * width, *to = projected + i * size;
      if (gatedQueries) takeGates(from, to, gates + i * mixedWidth);
      else if (from != to) std::copy(from, from + size, to);
      if (step.query.there) step.query.run(to, to, mixedSize, step.querySize);
      if (step.key.there) step.key.run(to + mixedSize, to + mixedSize, static_cast<int64_t>(keyValueHeads) * headSize, step.keySize);
      rememberRow(call, step.slots[i], rows[step.rows[i]], i, step.rows[i]);
    }
    mix(step, call, mixed, mixedWidth);
    for (int i = 0; i < step.count; i++) {
      float* own = mixed + i * mixedWidth;
      std::fill(own + mixedSize, own + mixedWidth, 0.0f);
      if (gatedQueries)
        for (int64_t at = 0; at < mixedSize; at++) own[at] /= 1 + std::exp(-gates[i * mixedWidth + at]);
    }
    add(step, mixed, mixedWidth, mixedSize, out);
  }

  // Splits projections whose query heads are each followed by a gate into ungated projections and gates.
  void takeGates(const float* from, float* to, float* gates) const {
    std::vector<float> row(from, from + (2 * heads + 2 * keyValueHeads) * headSize);
    for (int head = 0; head < heads; head++) {
      std::copy_n(row.data() + 2 * head * headSize, headSize, to + head * headSize);
      std::copy_n(row.data() + (2 * head + 1) * headSize, headSize, gates + head * headSize);
    }
    std::copy_n(row.data() + 2 * heads * headSize, 2 * keyValueHeads * headSize, to + heads * headSize);
  }

  void mix(const Step& step, const Attention& call, float* mixed, int64_t mixedWidth) const {
    const auto task = [&](int index) {
      const int i = index / heads, head = index % heads;
      attendRow(call, step.slots[i], rows[step.rows[i]], i, step.rows[i], head, mixed + i * mixedWidth + head * headSize);
    };
    int64_t work = 0;
    for (int i = 0; i < step.count; i++) work += static_cast<int64_t>(rows[step.rows[i]].position + 1) * heads * headSize;
    if (work > 1 << 15) return Pool::shared().run(step.count * heads, task);
    for (int index = 0; index < step.count * heads; index++) task(index);
  }

  void feed(const Step& step, const float* normed, float* ups, float* gates, float* out) const {
    const int64_t width = padded(hidden), neurons = step.inner, stride = padded(neurons);
    const FewRows upward{normed, width, step.count, hidden, step.first, neurons, step.firstBias, ups, stride};
    const FewRows gating{normed, width, step.count, hidden, step.gate, neurons, step.gateBias, gates, stride};
    inPieces(neurons, upward.piece(), [&](int64_t first, int64_t last) {
      upward.columnsOf(first, last);
      if (step.gated) gating.columnsOf(first, last);
      for (int row = 0; row < step.count; row++) {
        float *own = ups + row * stride, *through = gates + row * stride;
        if (step.gated && activation == silu) {
          gateNeurons(through + first, own + first, own + first, last - first);
        } else {
          for (int64_t i = first; i < last; i++) own[i] = step.gated ? activate(activation, through[i]) * own[i] : activate(activation, own[i]);
        }
        if (const float* mask = step.masks[row])
          for (int64_t i = first; i < last; i++) own[i] *= mask[i];
      }
    });
    for (int row = 0; row < step.count; row++) std::fill(ups + row * stride + neurons, ups + (row + 1) * stride, 0.0f);
    add(step, ups, stride, neurons, out);
  }

  // Applies the last projection to `inner`, and the norm after it if there is one, and adds the result to the stream.
  void add(const Step& step, const float* inner, int64_t stride, int64_t depth, float* out) const {
    FewRows product{inner, stride, step.count, depth, step.second, hidden, step.secondBias, x, hidden, step.rows, true, step.scale};
    if (!step.after.there) return product.run();
    product.to = out, product.place = nullptr, product.adds = false;
    product.run();
    for (int i = 0; i < step.count; i++) {
      float *own = out + i * hidden, *to = x + step.rows[i] * hidden;
      step.after.run(own, own, hidden, hidden);
      for (int64_t at = 0; at < hidden; at++) to[at] += own[at] * step.scale;
    }
  }
};

}  // namespace
