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

// The running softmax of one query row: the largest score so far, and the sum of exponentials relative to it.
struct Softmax {
  float largest = -std::numeric_limits<float>::infinity();
  float total = 0;
};

// Which of the keys whose scores are available a query row sees.
struct Seen {
  int low, high;
};

// Turns scores [0, size) of up to `rowsTogether` rows, `stride` apart, into exponentials. `seen(row)` tells which scores count. Returns the
// factors for the rows' earlier results. The largest score and the exponentials ignore NaN and infinity. If such a score counts, the sum
// becomes NaN, so that the output shows it. Each stage processes all rows, so that no row waits for the sums of the row before it.
constexpr int rowsTogether = 16;

template <class SeenBy>
void takeTogether(Softmax* rows, int count, float* scores, int stride, int size, const SeenBy& seen, float* factors) {
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  float sides[rowsTogether][lanes], largest[rowsTogether], sums[rowsTogether] = {};
  bool sees[rowsTogether];
  for (int row = 0; row < count; row++) {
    float* own = scores + row * stride;
    const auto [low, high] = seen(row);
    sees[row] = high > low;
    std::fill(own, own + (sees[row] ? low : size), sees[row] ? hidden : 0.0f);
    if (sees[row]) std::fill(own + high, own + size, hidden);
    Vector most = load(own);
    for (int i = lanes; i < size; i += lanes) most = larger(most, load(own + i));
    store(sides[row], most);
  }
  for (int row = 0; row < count; row++) largest[row] = sides[row][0];
  for (int lane = 1; lane < lanes; lane++)
    for (int row = 0; row < count; row++) largest[row] = std::max(largest[row], sides[row][lane]);
  for (int row = 0; row < count; row++) {
    if (!sees[row]) continue;
    largest[row] = std::max(rows[row].largest, largest[row]);
    float* own = scores + row * stride;
    Vector sum = all(0);
    for (int i = 0; i < size; i += lanes) {
      const Vector score = load(own + i), weight = exponent(score - largest[row]);
      store(own + i, weight);
      sum += weight + (score == hidden ? all(0) : score * 0);
    }
    store(sides[row], sum);
  }
  for (int lane = 0; lane < lanes; lane++)
    for (int row = 0; row < count; row++) sums[row] += sides[row][lane];
  for (int row = 0; row < count; row++) {
    factors[row] = 1;
    if (!sees[row]) continue;
    Softmax& own = rows[row];
    if (own.total == 0) factors[row] = 0;
    else if (own.largest != largest[row]) factors[row] = std::exp(own.largest - largest[row]);
    own = {largest[row], own.total * factors[row] + sums[row]};
  }
}

// The same for any number of rows.
template <class SeenBy>
void takeScores(Softmax* rows, int count, float* scores, int stride, int size, const SeenBy& seen, float* factors) {
  for (int first = 0; first < count; first += rowsTogether)
    takeTogether(rows + first, std::min(rowsTogether, count - first), scores + first * stride, stride, size,
                 [&](int row) { return seen(first + row); }, factors + first);
}

// The same for one row.
inline void takeScores(Softmax& row, float* scores, int size, Seen seen) {
  float factor;
  takeTogether(&row, 1, scores, 0, size, [&](int) { return seen; }, &factor);
}

}  // namespace
