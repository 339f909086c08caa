// Norms of rows.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "threads.h"
#include "vectors.h"

namespace {

// RMSNorm (arXiv 1910.07467, Eq. 4) or LayerNorm (arXiv 1607.06450); weight and bias may be null.
struct Norm {
  float epsilon, divisor;
  bool centred;
};

void normalizeRow(const Norm& norm, const float* x, const float* weight, const float* bias, float* to, int64_t size) {
  const int64_t whole = size / lanes * lanes;
  float mean = 0;
  if (norm.centred) {
    Vector sum = all(0);
    for (int64_t i = 0; i < whole; i += lanes) sum += load(x + i);
    mean = sumOf(sum);
    for (int64_t i = whole; i < size; i++) mean += x[i];
    mean /= static_cast<float>(size);
  }
  Vector squares = all(0);
  for (int64_t i = 0; i < whole; i += lanes) {
    const Vector value = load(x + i) - mean;
    squares += value * value;
  }
  float total = sumOf(squares);
  for (int64_t i = whole; i < size; i++) total += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(total / norm.divisor + norm.epsilon);
  for (int64_t i = 0; i < size; i++) to[i] = (x[i] - mean) * scale * (weight ? weight[i] : 1) + (bias ? bias[i] : 0);
}

// Gradients of a norm with respect to its rows, weight and bias. The latter two are summed over pieces of rows in a fixed order.
struct NormBackward {
  Norm norm;
  const float *x, *weight, *gradient;
  int64_t rows, size;
  float *byX, *byWeight, *byBias;

  static constexpr int64_t rowsAtOnce = 64;

  float sumOver(const float* a, const float* b, float shift) const {
    const int64_t whole = size / lanes * lanes;
    Vector sum = all(0);
    for (int64_t i = 0; i < whole; i += lanes) sum += (load(a + i) - shift) * (b ? load(b + i) - shift : all(1));
    float total = sumOf(sum);
    for (int64_t i = whole; i < size; i++) total += (a[i] - shift) * (b ? b[i] - shift : 1);
    return total;
  }

  // Computes one row; `unit` and `inner` are scratch space for it.
  void row(int64_t index, float* __restrict unit, float* __restrict inner, float* __restrict weights, float* __restrict biases) const {
    const float *own = x + index * size, *outer = gradient + index * size;
    float* __restrict to = byX + index * size;
    const float mean = norm.centred ? sumOver(own, nullptr, 0) / size : 0;
    const float scale = 1 / std::sqrt(sumOver(own, own, mean) / norm.divisor + norm.epsilon);
    for (int64_t i = 0; i < size; i++) {
      unit[i] = (own[i] - mean) * scale;
      inner[i] = weight ? outer[i] * weight[i] : outer[i];
      weights[i] += outer[i] * unit[i];
      biases[i] += outer[i];
    }
    const float along = sumOver(inner, unit, 0) / norm.divisor, level = norm.centred ? sumOver(inner, nullptr, 0) / size : 0;
    for (int64_t i = 0; i < size; i++) to[i] = (inner[i] - level - unit[i] * along) * scale;
  }

  // Computes rows [first, last) and their sums for weight and bias, stored in that order; `room` is scratch space for two rows.
  void piece(int64_t first, int64_t last, float* sums, float* room) const {
    std::fill(sums, sums + 2 * size, 0.0f);
    for (int64_t index = first; index < last; index++) row(index, room, room + roundUp(size, lanes), sums, sums + size);
  }

  void addPieces(const float* parts, int64_t pieces) const {
    std::fill(byWeight, byWeight + size, 0.0f);
    std::fill(byBias, byBias + size, 0.0f);
    for (int64_t piece = 0; piece < pieces; piece++) {
      for (int64_t i = 0; i < size; i++) {
        byWeight[i] += parts[2 * piece * size + i];
        byBias[i] += parts[(2 * piece + 1) * size + i];
      }
    }
  }

  void run() const {
    const int64_t pieces = (rows + rowsAtOnce - 1) / rowsAtOnce;
    float* parts = scratch<0>(2 * pieces * size);
    inPieces(rows, rowsAtOnce, [&](int64_t first, int64_t last) {
      piece(first, last, parts + first / rowsAtOnce * 2 * size, scratch<1>(2 * (size + lanes)));
    });
    addPieces(parts, pieces);
  }
};

}  // namespace
