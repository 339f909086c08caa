// Sums over the logits of a row.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "vectors.h"

namespace {

float largestIn(const float* row, int64_t size) {
  const int64_t whole = size / lanes * lanes;
  float largest = -std::numeric_limits<float>::infinity();
  if (whole > 0) {
    Vector most = load(row);
    for (int64_t i = lanes; i < whole; i += lanes) most = larger(most, load(row + i));
    largest = largestOf(most);
  }
  for (int64_t i = whole; i < size; i++) largest = std::max(largest, row[i]);
  return largest;
}

// The largest logit of a row, and the sum of exponentials relative to it.
void sumExponents(const float* logits, int64_t size, float* to) {
  const int64_t whole = size / lanes * lanes;
  const float largest = largestIn(logits, size);
  double total = 0;
  constexpr int64_t piece = 64 * lanes;
  for (int64_t first = 0; first < whole; first += piece) {
    Vector sum = all(0);
    for (int64_t i = first; i < std::min(whole, first + piece); i += lanes) sum += exponent(load(logits + i) - largest);
    total += sumOf(sum);
  }
  for (int64_t i = whole; i < size; i++) total += std::exp(logits[i] - largest);
  to[0] = largest;
  to[1] = static_cast<float>(total);
}

// Compares two models' logits for one row. For each model, writes the largest logit and the sum of exponentials relative to it; then the
// mean difference of the logits under the first model's distribution.
void compareLogits(const float* dense, const float* own, int64_t size, float* to) {
  const float largest = largestIn(dense, size), ownLargest = largestIn(own, size);
  double total = 0, ownTotal = 0, shift = 0;
  const int64_t whole = size / lanes * lanes;
  constexpr int64_t piece = 64 * lanes;
  for (int64_t first = 0; first < whole; first += piece) {
    Vector sum = all(0), ownSum = all(0), weighted = all(0);
    for (int64_t i = first; i < std::min(whole, first + piece); i += lanes) {
      const Vector a = load(dense + i), b = load(own + i), weight = exponent(a - largest);
      sum += weight;
      weighted += weight * (a - b);
      ownSum += exponent(b - ownLargest);
    }
    total += sumOf(sum);
    ownTotal += sumOf(ownSum);
    shift += sumOf(weighted);
  }
  for (int64_t i = whole; i < size; i++) {
    const float weight = std::exp(dense[i] - largest);
    total += weight;
    shift += weight * (dense[i] - own[i]);
    ownTotal += std::exp(own[i] - ownLargest);
  }
  to[0] = largest;
  to[1] = static_cast<float>(total);
  to[2] = ownLargest;
  to[3] = static_cast<float>(ownTotal);
  to[4] = static_cast<float>(shift / total);
}

// The `count` largest values of a row, followed by their indices. The lower index comes first among equal values.
void takeLargest(const float* row, int64_t size, int count, float* to) {
  constexpr int64_t piece = 16 * lanes;
  float* places = to + count;
  int found = 0;
  for (int64_t first = 0; first < size; first += piece) {
    const int64_t last = std::min(size, first + piece);
    if (found == count && !(largestIn(row + first, last - first) > to[count - 1])) continue;
    for (int64_t i = first; i < last; i++) {
      if (found == count && !(row[i] > to[count - 1])) continue;
      int at = found < count ? found++ : count - 1;
      for (; at > 0 && row[i] > to[at - 1]; at--) {
        to[at] = to[at - 1];
        places[at] = places[at - 1];
      }
      to[at] = row[i];
      places[at] = static_cast<float>(i);
    }
  }
}

}  // namespace
