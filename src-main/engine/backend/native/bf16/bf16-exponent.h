// Exponentials of sixteen values, as precise as 16-bit operands need.

#pragma once

#include <algorithm>
#include <cmath>

#include "bf16-tiles.h"

#if ESPALIER_BF16

namespace {

// 2^f for f in [-0.5, 0.5]: within 2e-7, or within 3e-6 if the result is rounded to halves.
template <bool Rounded>
inline __m512 powerOfTwo(__m512 f) {
  __m512 y;
  if (Rounded) {
    y = _mm512_fmadd_ps(_mm512_set1_ps(9.57010195e-03f), f, _mm512_set1_ps(5.59178616e-02f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.40247448e-01f));
    y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.93121815e-01f));
    return _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.99999261e-01f));
  }
  y = _mm512_fmadd_ps(_mm512_set1_ps(1.5403530e-4f), f, _mm512_set1_ps(1.3333558e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
  return _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
}

constexpr float binaryLog = 1.44269504f;

// exp(x - reference), where `shift` is the reference times `binaryLog`. NaN stays NaN, and infinities become NaN. Adding 3 * 2^22 rounds a
// number to an integer. Rounding operations take longer: while matrix units work, they and multiplications have one port, additions two.
template <bool Rounded>
inline __m512 exponentAbove(__m512 x, __m512 shift) {
  const __m512 power = _mm512_fmsub_ps(x, _mm512_set1_ps(binaryLog), shift);
  const __m512 toInteger = _mm512_set1_ps(3 << 22), whole = _mm512_sub_ps(_mm512_add_ps(power, toInteger), toInteger);
  return _mm512_scalef_ps(powerOfTwo<Rounded>(_mm512_sub_ps(power, whole)), whole);
}

// exp(x), for x that does not overflow.
inline __m512 quickExponent(__m512 x) { return exponentAbove<false>(_mm512_max_ps(_mm512_set1_ps(-200), x), _mm512_setzero_ps()); }

// cap tanh(x / cap) = cap - 2 cap / (1 + exp(2 x / cap)), or x without a cap.
inline __m512 capped(__m512 x, float cap) {
  if (cap <= 0) return x;
  const __m512 e = quickExponent(_mm512_mul_ps(x, _mm512_set1_ps(2 / cap)));
  return _mm512_sub_ps(_mm512_set1_ps(cap), _mm512_div_ps(_mm512_set1_ps(2 * cap), _mm512_add_ps(_mm512_set1_ps(1), e)));
}

// Sixteen sums of exponentials side by side, each relative to a reference that moves only when exponentials could overflow.
struct ExponentSums {
  __m512 reference = _mm512_set1_ps(-1e30f), total = _mm512_setzero_ps();

  // Adds exp(x - reference) and returns it. `along` has sums of products with these exponentials.
  __m512 add(__m512 x, __m512* along = nullptr) {
    if (_mm512_cmp_ps_mask(_mm512_sub_ps(x, reference), _mm512_set1_ps(40), _CMP_GT_OQ)) {
      const __m512 next = _mm512_max_ps(reference, x), factor = quickExponent(_mm512_sub_ps(reference, next));
      total = _mm512_mul_ps(total, factor);
      if (along) *along = _mm512_mul_ps(*along, factor);
      reference = next;
    }
    const __m512 own = quickExponent(_mm512_sub_ps(x, reference));
    total = _mm512_add_ps(total, own);
    return own;
  }
};

// Combines such sums, and those of other lanes, into one sum and its reference.
struct ExponentTotal {
  double reference = -1e30, total = 0;

  void add(double otherReference, double otherTotal) {
    if (otherTotal == 0) return;
    const double next = std::max(reference, otherReference);
    total = total * std::exp(reference - next) + otherTotal * std::exp(otherReference - next);
    reference = next;
  }

  void add(const ExponentSums& sums) {
    alignas(64) float references[tileSide], totals[tileSide];
    _mm512_store_ps(references, sums.reference);
    _mm512_store_ps(totals, sums.total);
    for (int i = 0; i < tileSide; i++) add(references[i], totals[i]);
  }
};

}  // namespace

#endif
