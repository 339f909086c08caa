// TensorFlow kernel that runs parts of the decoder on few rows.

#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "../decoder.h"
#include "bf16-inputs.h"
#include "call.h"
#include "decode-words.h"
#include "narrow-kernels.h"
#include "placed-rows.h"

namespace {

// x [N, D] through parts of the decoder to the stream after the last one, [N, D]. A part is a row of `steps` and a row of `numbers`
// (`decode-words.h`), which refer to `tensors` and `halves`. `lists` has the rows of each part, then for each row an index into `tensors`:
// for attention that of its keys, with its values next; for an MLP that of its neurons' factors, or -1.
struct DecodeKernel {
  int tensors, packed, heads, keyValueHeads, headSize, activation;
  bool gatedQueries;
  float cap;

  explicit DecodeKernel(TF_OpKernelConstruction* from)
      : tensors(intOf(from, "count")),
        packed(intOf(from, "packed")),
        heads(intOf(from, "heads")),
        keyValueHeads(intOf(from, "key_value_heads")),
        headSize(intOf(from, "head_size")),
        activation(intOf(from, "activation")),
        gatedQueries(intOf(from, "gated_queries") != 0),
        cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor *x, *steps, *numbers, *lists, *rows, *slots;
    if (!call.inputs({&x, &steps, &numbers, &lists, &rows, &slots})) return;
    Inputs inputs{lists, std::vector<const TF_Tensor*>(tensors), std::vector<const TF_Tensor*>(packed)};
    if (!call.inputs(fixedInputs, inputs.tensors) || !call.inputs(fixedInputs + tensors, inputs.halves)) return;
    std::vector<PlacedRow> placed;
    const bool fits = isMatrix(x) && isMatrix(steps) && TF_Dim(steps, 1) == word::count && isMatrix(numbers) && TF_Dim(numbers, 1) == number::count &&
                      TF_Dim(numbers, 0) == TF_Dim(steps, 0) && heads > 0 && keyValueHeads > 0 && heads % keyValueHeads == 0 && headSize > 0 &&
                      placeRows(rows, slots, placed) && static_cast<int64_t>(placed.size()) == TF_Dim(x, 0);
    if (!call.require(fits, "Parts of the decoder: rows, steps or slots do not fit.")) return;
    const int64_t count = TF_Dim(x, 0), hidden = TF_Dim(x, 1);
    float* output = call.output({count, hidden});
    if (!output) return;
    std::copy(dataOf(x), dataOf(x) + count * hidden, output);
    bool parallel = false;
    for (int64_t i = 0; i < TF_Dim(steps, 0); i++) parallel = parallel || wordsOf(steps)[i * word::count + word::keepsSource] != 0;
    std::vector<float> source(parallel ? output : nullptr, parallel ? output + count * hidden : nullptr);
    const Decoder decoder{heads, keyValueHeads, headSize, cap, static_cast<Activation>(activation), gatedQueries, hidden, output,
                          parallel ? source.data() : output, std::move(placed)};
    for (int64_t i = 0; i < TF_Dim(steps, 0); i++) {
      Step step{};
      const bool whole = inputs.read(decoder, wordsOf(steps) + i * word::count, dataOf(numbers) + i * number::count, step);
      if (!call.require(whole, "Parts of the decoder: weights or cache do not fit the rows.")) return;
      decoder.run(step);
    }
  }

 private:
  // Inputs before the tensors.
  static constexpr int fixedInputs = 6;

  struct Inputs {
    const TF_Tensor* lists;
    std::vector<const TF_Tensor*> tensors, halves;

    const TF_Tensor* tensor(int index) const { return index >= 0 && index < static_cast<int>(tensors.size()) ? tensors[index] : nullptr; }

    // Sets `to` to a vector of `size`, or to null without one. Returns false if the size differs.
    bool vector(int index, int64_t size, const float*& to) const {
      to = nullptr;
      if (index == -1) return true;
      const TF_Tensor* found = tensor(index);
      if (!found || sizeOf(found) != size) return false;
      to = dataOf(found);
      return true;
    }

    bool matrix(int index, int64_t rows, int64_t columns, StoredWeight& to) const {
      if (index < -1) {
        const int place = -2 - index;
        if (place >= static_cast<int>(halves.size())) return false;
        if (TF_NumDims(halves[place]) < 4) return narrowWeight(halves[place], rows, columns, to);
#if ESPALIER_BF16
        if (!fitsWeight(halves[place], rows, columns)) return false;
        to.halves = packedWeight(halves[place]);
        return true;
#else
        return false;
#endif
      }
      const TF_Tensor* found = tensor(index);
      if (!found || !isMatrix(found) || TF_Dim(found, 0) != rows || TF_Dim(found, 1) != columns) return false;
      to.floats = dataOf(found);
      return true;
    }

    bool norm(int kind, float epsilon, float divisor, int weight, int bias, int64_t size, StepNorm& to) const {
      to.there = kind != normKind::none;
      to.norm = {epsilon, divisor, kind == normKind::layer};
      return !to.there || (vector(weight, size, to.weight) && vector(bias, size, to.bias));
    }

    // Reads a norm that applies to runs of queries or keys as long as its weights.
    bool groupNorm(int kind, int index, float epsilon, int64_t size, StepNorm& to, int64_t& group) const {
      to.there = index >= 0;
      if (!to.there) return true;
      const TF_Tensor* found = tensor(index);
      if (!found || sizeOf(found) == 0 || size % sizeOf(found) != 0) return false;
      group = sizeOf(found);
      to.weight = dataOf(found);
      to.norm = {epsilon, static_cast<float>(group), kind == normKind::layer};
      return true;
    }

    bool read(const Decoder& decoder, const int32_t* words, const float* numbers, Step& step) const {
      step.attends = words[word::attends] != 0;
      step.keepsSource = words[word::keepsSource] != 0;
      step.count = words[word::rows];
      step.inner = words[word::inner];
      step.scale = numbers[number::scale];
      const int64_t hidden = decoder.hidden;
      const bool fits = step.inner > 0 && step.count > 0 && words[word::firstRow] >= 0 && words[word::firstRow] + 2 * int64_t{step.count} <= sizeOf(lists) &&
                        norm(words[word::beforeKind], numbers[number::beforeEpsilon], numbers[number::beforeDivisor],
                             words[word::beforeWeight], words[word::beforeBias], hidden, step.before) &&
                        norm(words[word::afterKind], numbers[number::afterEpsilon], numbers[number::afterDivisor],
                             words[word::afterWeight], words[word::afterBias], hidden, step.after) &&
                        matrix(words[word::first], step.inner, hidden, step.first) && vector(words[word::firstBias], step.inner, step.firstBias) &&
                        vector(words[word::secondBias], hidden, step.secondBias);
      if (!fits) return false;
      step.rows = wordsOf(lists) + words[word::firstRow];
      for (int i = 0; i < step.count; i++)
        if (step.rows[i] < 0 || step.rows[i] >= static_cast<int>(decoder.rows.size())) return false;
      return step.attends ? readAttention(decoder, words, numbers, step) : readMlp(decoder, words, step);
    }

    bool readMlp(const Decoder& decoder, const int32_t* words, Step& step) const {
      step.masks.resize(step.count);
      for (int i = 0; i < step.count; i++)
        if (!vector(step.rows[step.count + i], step.inner, step.masks[i])) return false;
      step.gated = words[word::gate] != -1;
      return (!step.gated || matrix(words[word::gate], step.inner, decoder.hidden, step.gate)) &&
             vector(words[word::gateBias], step.inner, step.gateBias) && matrix(words[word::second], decoder.hidden, step.inner, step.second);
    }

    bool readAttention(const Decoder& decoder, const int32_t* words, const float* numbers, Step& step) const {
      const int64_t size = decoder.headSize, mixed = decoder.heads * size, keys = decoder.keyValueHeads * size;
      const TF_Tensor *cosine = tensor(words[word::tables]), *sine = tensor(words[word::tables] + 1);
      const int kind = words[word::headKind];
      if (!cosine || !sine || !isMatrix(cosine) || sizeOf(cosine) != sizeOf(sine) || 2 * TF_Dim(cosine, 1) > size ||
          TF_Dim(cosine, 0) != static_cast<int64_t>(decoder.rows.size()) || step.inner != (decoder.gatedQueries ? 2 : 1) * mixed + 2 * keys ||
          !matrix(words[word::second], decoder.hidden, mixed, step.second) ||
          !groupNorm(kind, words[word::queryWeight], numbers[number::headEpsilon], mixed, step.query, step.querySize) ||
          !groupNorm(kind, words[word::keyWeight], numbers[number::headEpsilon], keys, step.key, step.keySize))
        return false;
      step.cosine = dataOf(cosine), step.sine = dataOf(sine), step.rotated = static_cast<int>(2 * TF_Dim(cosine, 1));
      step.window = words[word::window];
      for (int i = 0; i < step.count; i++) {
        const TF_Tensor *key = tensor(step.rows[step.count + i]), *value = tensor(step.rows[step.count + i] + 1);
        if (!key || !value || TF_NumDims(key) != 3 || sizeOf(key) != sizeOf(value) || TF_Dim(key, 0) != decoder.keyValueHeads ||
            TF_Dim(key, 2) != size)
          return false;
        const PlacedRow& row = decoder.rows[step.rows[i]];
        const int capacity = static_cast<int>(TF_Dim(key, 1));
        for (int at = 0; at <= row.position; at++)
          if (row.places[at] < 0 || row.places[at] >= capacity) return false;
        step.slots.push_back({const_cast<float*>(dataOf(key)), const_cast<float*>(dataOf(value)), capacity, static_cast<int>(size)});
      }
      return true;
    }
  };
};

}  // namespace
