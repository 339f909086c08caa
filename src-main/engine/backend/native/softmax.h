// Softmax of scores that arrive in pieces.

#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.h"

namespace {

// Replaces each score s by cap * tanh(s / cap), or by NaN if s is not finite. `size` is a multiple of a vector's lanes.
void capScores(float* scores, int size, float cap) {
  for (int i = 0; i < size; i += lanes) {
    const Vector score = load(scores + i);
    store(scores + i, cap * hyperbolicTangent(score * (1 / cap)) + score * 0);
  }
}

// The running softmax of one query row: its largest score, and the sum of exponents relative to it.
struct Softmax {
  float largest = -std::numeric_limits<float>::infinity();
  float total = 0;
};

// Turns scores [0, size) of a row, of which [low, high) count, into exponents. Returns the factor for earlier results. The largest score
// and its exponents ignore NaN and infinity. If one of these counts, the sum becomes NaN, so the output shows it.
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
    const Vector score = load(scores + i), weight = exponent(score - largest);
    store(scores + i, weight);
    sum += weight + (score == hidden ? all(0) : score * 0);
  }
  const float rescale = row.total == 0 ? 0 : std::exp(row.largest - largest);
  row.total = row.total * rescale + sumOf(sum);
  row.largest = largest;
  return rescale;
}

}  // namespace
