// Norms of rows.

#pragma once

#include <cmath>
#include <cstdint>

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

}  // namespace
