// Distances between rows, and sums over them.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace {

// |a - b| / |b| and the cosine of two rows.
void compareRows(const float* a, const float* b, int64_t size, float* to) {
  Vector squaresA = all(0), squaresB = all(0), products = all(0), differences = all(0);
  const int64_t whole = size / lanes * lanes;
  for (int64_t i = 0; i < whole; i += lanes) {
    const Vector left = load(a + i), right = load(b + i), apart = left - right;
    squaresA += left * left;
    squaresB += right * right;
    products += left * right;
    differences += apart * apart;
  }
  double aa = sumOf(squaresA), bb = sumOf(squaresB), ab = sumOf(products), dd = sumOf(differences);
  for (int64_t i = whole; i < size; i++) {
    aa += a[i] * a[i];
    bb += b[i] * b[i];
    ab += a[i] * b[i];
    dd += (a[i] - b[i]) * (a[i] - b[i]);
  }
  constexpr double tiny = 1e-30;
  to[0] = static_cast<float>(std::sqrt(dd) / std::max(std::sqrt(bb), tiny));
  to[1] = static_cast<float>(ab / std::max(std::sqrt(aa) * std::sqrt(bb), tiny));
}

// Sums over rows of |x| or x squared for columns [first, last).
void sumColumns(const float* x, int64_t rows, int64_t columns, int64_t first, int64_t last, bool squared, float* to) {
  constexpr int64_t together = 32;
  const int64_t width = last - first;
  std::vector<double> total(width, 0);
  std::vector<float> part(width);
  for (int64_t start = 0; start < rows; start += together) {
    std::fill(part.begin(), part.end(), 0.0f);
    for (int64_t row = start; row < std::min(rows, start + together); row++) {
      const float* from = x + row * columns + first;
      if (squared)
        for (int64_t i = 0; i < width; i++) part[i] += from[i] * from[i];
      else
        for (int64_t i = 0; i < width; i++) part[i] += std::fabs(from[i]);
    }
    for (int64_t i = 0; i < width; i++) total[i] += part[i];
  }
  for (int64_t i = 0; i < width; i++) to[first + i] = static_cast<float>(total[i]);
}

}  // namespace
