// Softmax of scores that arrive in pieces.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.h"

namespace {

// Scores s to cap * tanh(s / cap); `size` is a multiple of a vector's lanes.
void capScores(float* scores, int size, float cap) {
  for (int i = 0; i < size; i += lanes) store(scores + i, cap * hyperbolicTangent(load(scores + i) * (1 / cap)));
}

// The running softmax of one query row: its largest score, the sum of exponents relative to it.
struct Softmax {
  float largest = -std::numeric_limits<float>::infinity();
  float total = 0;
};

// Turns scores [0, size) of a row, of which [low, high) count, into exponents; returns what earlier results must be multiplied by.
float takeScores(Softmax& row, float* scores, int size, int low, int high) {
  if (high <= low) {
    std::fill(scores, scores + size, 0.0f);
    return 1;
  }
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + low, hidden);
  std::fill(scores + high, scores + size, hidden);
  Vector most = load(scores);
  for (int i = lanes; i < size; i += lanes) most = larger(most, load(scores + i));
  const float largest = std::max(row.largest, largestOf(most));
  Vector sum = all(0);
  for (int i = 0; i < size; i += lanes) {
    const Vector weight = exponent(load(scores + i) - largest);
    store(scores + i, weight);
    sum += weight;
  }
  const float rescale = row.total == 0 ? 0 : std::exp(row.largest - largest);
  row.total = row.total * rescale + sumOf(sum);
  row.largest = largest;
  return rescale;
}

}  // namespace
