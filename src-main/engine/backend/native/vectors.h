// Vectors as wide as this processor's registers, and functions on them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int lanes = 16, tileRows = 6, tileVectors = 4;
#elif defined(__AVX2__)
constexpr int lanes = 8, tileRows = 6, tileVectors = 2;
#elif defined(__aarch64__)
constexpr int lanes = 4, tileRows = 6, tileVectors = 4;
#else
constexpr int lanes = 4, tileRows = 4, tileVectors = 2;
#endif
constexpr int tileColumns = lanes * tileVectors;

typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));
typedef int32_t Integers __attribute__((vector_size(lanes * sizeof(int32_t))));

inline int64_t roundUp(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

inline Vector load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof vector); }

// Uses intrinsics, because compilers would first add the value to zeros, which occupies the units that multiply.
inline Vector all(float value) {
#if defined(__AVX512F__)
  return (Vector)_mm512_set1_ps(value);
#elif defined(__AVX2__)
  return (Vector)_mm256_set1_ps(value);
#else
  return Vector{} + value;
#endif
}

// A fused multiply-add, which rounds once. For some processors, compilers split a single multiply-add in two. The bits would then depend on
// how many sums run side by side.
inline Vector multiplyAdd(Vector a, Vector b, Vector sum) {
#if defined(__AVX512F__)
  return (Vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__) && defined(__FMA__)
  return (Vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
  return sum + a * b;
#endif
}

inline float sumOf(Vector vector) {
  float sum = 0;
  for (int i = 0; i < lanes; i++) sum += vector[i];
  return sum;
}

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

inline float largestOf(Vector vector) {
  float largest = vector[0];
  for (int i = 1; i < lanes; i++) largest = std::max(largest, vector[i]);
  return largest;
}

// exp, within 2 units in the last place; 0 below -87. Reduces the range by ln 2 in two parts, then evaluates a polynomial of degree 6.
inline Vector exponent(Vector x) {
  const Vector low = all(-87.0f), high = all(88.0f), magic = all(12582912.0f);
  const Integers vanishes = x < low;
  x = larger(x, low);
  x = x < high ? x : high;
  const Vector shifted = x * 1.44269504f + magic;
  const Vector power = shifted - magic;
  const Vector r = (x - power * 0.693359375f) - power * -2.12194440e-4f;
  Vector y = r * 1.9875691e-4f + 1.3981999e-3f;
  y = y * r + 8.3334519e-3f;
  y = y * r + 4.1665796e-2f;
  y = y * r + 1.6666667e-1f;
  y = y * r + 0.5f;
  y = y * (r * r) + (r + 1.0f);
  Integers bits, scale;
  std::memcpy(&bits, &y, sizeof bits);
  std::memcpy(&scale, &shifted, sizeof scale);
  bits += scale << 23;
  std::memcpy(&y, &bits, sizeof y);
  return vanishes ? all(0) : y;
}

// tanh within 2e-7: a series for small x, otherwise computed from the exponential.
inline Vector hyperbolicTangent(Vector x) {
  const Vector square = x * x;
  const Vector series = x * (1 + square * (-0.33333333f + square * (0.13333333f + square * (-0.053968254f + square * 0.021869489f))));
  const Vector whole = 1 - 2 / (exponent(x + x) + 1);
  return square < all(0.09f) ? series : whole;
}

}  // namespace
