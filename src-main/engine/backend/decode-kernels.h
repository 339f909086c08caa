// What TensorFlow calls of `decode.h` and `few-rows.h`. Included by `fused.cc` behind its reading of tensors.

#pragma once

#include "decode.h"

namespace {

// Rows [table, position] of a call: table is where a sequence's slots begin in `slots`. False where one reaches beyond them or the cache.
bool placeRows(const TF_Tensor* rows, const TF_Tensor* slots, std::vector<PlacedRow>& placed) {
  if (!isMatrix(rows) || TF_Dim(rows, 1) != 2) return false;
  for (int64_t row = 0; row < TF_Dim(rows, 0); row++) {
    const int32_t table = wordsOf(rows)[2 * row], position = wordsOf(rows)[2 * row + 1];
    if (table < 0 || position < 0 || static_cast<int64_t>(table) + position >= sizeOf(slots)) return false;
    placed.push_back({wordsOf(slots) + table, position});
  }
  return true;
}

bool withinCapacity(const std::vector<PlacedRow>& rows, int capacity) {
  for (const PlacedRow& row : rows)
    for (int at = 0; at <= row.position; at++)
      if (row.places[at] < 0 || row.places[at] >= capacity) return false;
  return true;
}

// projected [N, (H + 2K) d], rotary tables of its rows [N, rotated / 2], where they stand, and the cache [K, capacity, d] twice, which is
// written in place: to [N, H d].
struct PlacedAttentionKernel {
  int heads, keyValueHeads, window;
  float cap;

  explicit PlacedAttentionKernel(TF_OpKernelConstruction* from)
      : heads(intOf(from, "heads")), keyValueHeads(intOf(from, "key_value_heads")), window(intOf(from, "window")), cap(floatOf(from, "cap")) {}

  void compute(Call& call) const {
    const TF_Tensor* in[7];
    for (int i = 0; i < 7; i++)
      if (!(in[i] = call.input(i))) return;
    const TF_Tensor *projected = in[0], *cosine = in[1], *sine = in[2], *keys = in[5], *values = in[6];
    std::vector<PlacedRow> rows;
    bool fits = isMatrix(projected) && isMatrix(cosine) && sizeOf(cosine) == sizeOf(sine) && TF_NumDims(keys) == 3 &&
                sizeOf(keys) == sizeOf(values) && placeRows(in[3], in[4], rows);
    if (!call.require(fits, "Attention in a cache: tables, rows or slots do not fit.")) return;
    const int64_t count = TF_Dim(projected, 0), size = TF_Dim(keys, 2), half = TF_Dim(cosine, 1);
    fits = heads > 0 && keyValueHeads > 0 && heads % keyValueHeads == 0 && TF_Dim(keys, 0) == keyValueHeads && 2 * half <= size &&
           TF_Dim(projected, 1) == (heads + 2 * keyValueHeads) * size && TF_Dim(cosine, 0) == count &&
           static_cast<int64_t>(rows.size()) == count && withinCapacity(rows, static_cast<int>(TF_Dim(keys, 1)));
    if (!call.require(fits, "Attention in a cache: the cache does not fit the heads or positions.")) return;
    float* output = call.output({count, heads * size});
    if (!output) return;
    const Slots slots{const_cast<float*>(dataOf(keys)), const_cast<float*>(dataOf(values)), static_cast<int>(TF_Dim(keys, 1)),
                      static_cast<int>(size)};
    const Attention attention{heads, keyValueHeads, static_cast<int>(size), static_cast<int>(count), 1, window, static_cast<int>(2 * half),
                              dataOf(projected), dataOf(cosine), dataOf(sine), output, cap};
    attendPlaced(attention, slots, rows);
  }
};

// x [N, D] through parts: the stream behind the last of them, [N, D]. A part is a row of `steps` (see `StepWords`) and one of `numbers`;
// what these name stands in `tensors` and `halves`; `lists` has the rows of each part, then for each of them a place in `tensors`: of attention that of its keys,
// behind which its values stand, of an MLP that of what its neurons are multiplied by, -1 for nothing.
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
    std::vector<const TF_Tensor*> in(firstTensor + tensors + packed);
    for (size_t i = 0; i < in.size(); i++)
      if (!(in[i] = call.input(static_cast<int>(i)))) return;
    const TF_Tensor *x = in[0], *steps = in[1], *numbers = in[2];
    std::vector<PlacedRow> rows;
    const bool fits = isMatrix(x) && isMatrix(steps) && TF_Dim(steps, 1) == stepWords && isMatrix(numbers) && TF_Dim(numbers, 1) == stepNumbers &&
                      TF_Dim(numbers, 0) == TF_Dim(steps, 0) && heads > 0 && keyValueHeads > 0 && heads % keyValueHeads == 0 && headSize > 0 &&
                      placeRows(in[4], in[5], rows) && static_cast<int64_t>(rows.size()) == TF_Dim(x, 0);
    if (!call.require(fits, "Parts of the decoder: rows, steps or slots do not fit.")) return;
    const int64_t count = TF_Dim(x, 0), hidden = TF_Dim(x, 1);
    float* output = call.output({count, hidden});
    if (!output) return;
    std::copy(dataOf(x), dataOf(x) + count * hidden, output);
    bool parallel = false;
    for (int64_t i = 0; i < TF_Dim(steps, 0); i++) parallel = parallel || wordsOf(steps)[i * stepWords + keepsSourceWord] != 0;
    std::vector<float> source(parallel ? output : nullptr, parallel ? output + count * hidden : nullptr);
    const Decoder decoder{heads, keyValueHeads, headSize, cap, static_cast<Activation>(activation), gatedQueries, hidden, output,
                          parallel ? source.data() : output, std::move(rows)};
    const Inputs inputs{in, tensors, packed};
    for (int64_t i = 0; i < TF_Dim(steps, 0); i++) {
      Step step{};
      const bool whole = inputs.read(decoder, wordsOf(steps) + i * stepWords, dataOf(numbers) + i * stepNumbers, step);
      if (!call.require(whole, "Parts of the decoder: weights or cache do not fit the rows.")) return;
      decoder.run(step);
    }
  }

 private:
  static constexpr int firstTensor = 6;

  // Words of a step: where a tensor is named, -1 stands for none, and -2 - i for the i-th of `halves`.
  enum StepWords {
    attendsWord, keepsSourceWord, firstRowWord, rowsWord, innerWord, windowWord, tableWord,
    beforeKindWord, beforeWord, beforeBiasWord, afterKindWord, afterWord, afterBiasWord, headKindWord, queryWord, keyWord,
    firstWord, firstBiasWord, gateWord, gateBiasWord, secondWord, secondBiasWord, stepWords
  };
  enum StepNumbers { beforeEpsilon, beforeDivisor, afterEpsilon, afterDivisor, headEpsilon, scaleNumber, stepNumbers };
  enum NormKinds { noNorm, squareNorm, layerNorm };

  struct Inputs {
    const std::vector<const TF_Tensor*>& in;
    int tensors, packed;

    const TF_Tensor* tensor(int index) const { return index >= 0 && index < tensors ? in[firstTensor + index] : nullptr; }

    // A vector of `size`, or none; false where it is another.
    bool vector(int index, int64_t size, const float*& to) const {
      to = nullptr;
      if (index == -1) return true;
      const TF_Tensor* found = tensor(index);
      if (!found || sizeOf(found) != size) return false;
      to = dataOf(found);
      return true;
    }

    bool matrix(int index, int64_t rows, int64_t columns, StoredWeight& to) const {
#if ESPALIER_HALVES
      if (index < -1) {
        const int place = -2 - index;
        if (place >= packed || !fitsWeight(in[firstTensor + tensors + place], rows, columns)) return false;
        to.halves = halfWeight(in[firstTensor + tensors + place]);
        return true;
      }
#endif
      const TF_Tensor* found = tensor(index);
      if (!found || !isMatrix(found) || TF_Dim(found, 0) != rows || TF_Dim(found, 1) != columns) return false;
      to.floats = dataOf(found);
      return true;
    }

    bool norm(const int32_t* words, const float* numbers, int64_t size, StepNorm& to) const {
      to.there = words[0] != noNorm;
      to.norm = {numbers[0], numbers[1], words[0] == layerNorm};
      return !to.there || (vector(words[1], size, to.weight) && vector(words[2], size, to.bias));
    }

    // A norm on runs of queries or keys as long as its weights.
    bool groupNorm(int kind, int index, float epsilon, int64_t size, StepNorm& to, int64_t& group) const {
      to.there = index >= 0;
      if (!to.there) return true;
      const TF_Tensor* found = tensor(index);
      if (!found || sizeOf(found) == 0 || size % sizeOf(found) != 0) return false;
      group = sizeOf(found);
      to.weight = dataOf(found);
      to.norm = {epsilon, static_cast<float>(group), kind == layerNorm};
      return true;
    }

    bool read(const Decoder& decoder, const int32_t* words, const float* numbers, Step& step) const {
      step.attends = words[attendsWord] != 0;
      step.keepsSource = words[keepsSourceWord] != 0;
      step.count = words[rowsWord];
      step.inner = words[innerWord];
      step.scale = numbers[scaleNumber];
      const int64_t hidden = decoder.hidden;
      const bool fits = step.inner > 0 && step.count > 0 && words[firstRowWord] >= 0 && words[firstRowWord] + 2 * int64_t{step.count} <= sizeOf(in[3]) &&
                        norm(words + beforeKindWord, numbers + beforeEpsilon, hidden, step.before) &&
                        norm(words + afterKindWord, numbers + afterEpsilon, hidden, step.after) &&
                        matrix(words[firstWord], step.inner, hidden, step.first) && vector(words[firstBiasWord], step.inner, step.firstBias) &&
                        vector(words[secondBiasWord], hidden, step.secondBias);
      if (!fits) return false;
      step.rows = wordsOf(in[3]) + words[firstRowWord];
      for (int i = 0; i < step.count; i++)
        if (step.rows[i] < 0 || step.rows[i] >= static_cast<int>(decoder.rows.size())) return false;
      return step.attends ? readAttention(decoder, words, numbers, step) : readMlp(decoder, words, step);
    }

    bool readMlp(const Decoder& decoder, const int32_t* words, Step& step) const {
      step.masks.resize(step.count);
      for (int i = 0; i < step.count; i++)
        if (!vector(step.rows[step.count + i], step.inner, step.masks[i])) return false;
      step.gated = words[gateWord] != -1;
      return (!step.gated || matrix(words[gateWord], step.inner, decoder.hidden, step.gate)) &&
             vector(words[gateBiasWord], step.inner, step.gateBias) && matrix(words[secondWord], decoder.hidden, step.inner, step.second);
    }

    bool readAttention(const Decoder& decoder, const int32_t* words, const float* numbers, Step& step) const {
      const int64_t size = decoder.headSize, mixed = decoder.heads * size, keys = decoder.keyValueHeads * size;
      const TF_Tensor *cosine = tensor(words[tableWord]), *sine = tensor(words[tableWord] + 1);
      const int kind = words[headKindWord];
      if (!cosine || !sine || !isMatrix(cosine) || sizeOf(cosine) != sizeOf(sine) || 2 * TF_Dim(cosine, 1) > size ||
          TF_Dim(cosine, 0) != static_cast<int64_t>(decoder.rows.size()) || step.inner != (decoder.gatedQueries ? 2 : 1) * mixed + 2 * keys ||
          !matrix(words[secondWord], decoder.hidden, mixed, step.second) ||
          !groupNorm(kind, words[queryWord], numbers[headEpsilon], mixed, step.query, step.querySize) ||
          !groupNorm(kind, words[keyWord], numbers[headEpsilon], keys, step.key, step.keySize))
        return false;
      step.cosine = dataOf(cosine), step.sine = dataOf(sine), step.rotated = static_cast<int>(2 * TF_Dim(cosine, 1));
      step.window = words[windowWord];
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
