// AdamW steps on float32 arrays, in place.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "threads.h"

namespace {

// The number of entries per task.
constexpr int64_t adamEntries = 1 << 16;

// An AdamW step (arXiv 1711.05101) without weight decay. `reach` is the learning rate divided by the bias correction of the first moment,
// and `level` is one divided by that of the second. Each entry is computed separately in float64, so the result does not depend on the
// number of threads.
struct AdamStep {
  double firstDecay, secondDecay, epsilon, reach, level, factor;

  void entries(float* __restrict values, float* __restrict first, float* __restrict second, const float* __restrict gradient, int64_t count) const {
    const double ownFirst = 1 - firstDecay, ownSecond = 1 - secondDecay;
    for (int64_t i = 0; i < count; i++) {
      const double g = gradient[i] * factor;
      const double m = firstDecay * first[i] + ownFirst * g, v = secondDecay * second[i] + ownSecond * g * g;
      first[i] = static_cast<float>(m);
      second[i] = static_cast<float>(v);
      values[i] = static_cast<float>(values[i] - reach * m / (std::sqrt(v * level) + epsilon));
    }
  }

  void run(float* values, float* first, float* second, const float* gradient, int64_t count) const {
    inPieces(count, adamEntries, [&](int64_t from, int64_t to) { entries(values + from, first + from, second + from, gradient + from, to - from); });
  }
};

// The sum of squares in float64, always added up in the same order.
double sumOfSquares(const float* values, int64_t count) {
  std::vector<double> parts((count + adamEntries - 1) / adamEntries);
  inPieces(count, adamEntries, [&](int64_t from, int64_t to) {
    constexpr int side = 16;
    double sums[side] = {}, total = 0;
    int64_t i = from;
    for (; i + side <= to; i += side)
      for (int lane = 0; lane < side; lane++) sums[lane] += static_cast<double>(values[i + lane]) * values[i + lane];
    for (; i < to; i++) total += static_cast<double>(values[i]) * values[i];
    for (double sum : sums) total += sum;
    parts[from / adamEntries] = total;
  });
  double total = 0;
  for (double part : parts) total += part;
  return total;
}

}  // namespace
