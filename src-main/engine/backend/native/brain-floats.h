// Weights in bfloat16, row by row: the upper halves of float32 values, of which nothing is lost.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

struct BrainFloat {
  uint16_t bits;
};

typedef uint16_t Shorts __attribute__((vector_size(lanes * sizeof(uint16_t))));
typedef uint32_t Words __attribute__((vector_size(lanes * sizeof(uint32_t))));

inline Vector load(const BrainFloat* from) {
#if defined(__AVX512F__)
  // What the compiler makes of the rest takes twice the instructions.
  return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16);
#else
  Shorts shorts;
  std::memcpy(&shorts, from, sizeof shorts);
  const Words words = __builtin_convertvector(shorts, Words) << 16;
  Vector vector;
  std::memcpy(&vector, &words, sizeof vector);
  return vector;
#endif
}

inline float valueOf(float value) { return value; }

inline float valueOf(BrainFloat value) {
  const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &word, sizeof wide);
  return wide;
}

// Whether nothing of the values is lost in bfloat16.
inline bool areBrainFloats(const float* from, int64_t size) {
  constexpr int64_t piece = 1 << 12;
  for (int64_t first = 0; first < size; first += piece) {
    uint32_t lost = 0;
    for (int64_t i = first; i < std::min(size, first + piece); i++) {
      uint32_t word;
      std::memcpy(&word, from + i, sizeof word);
      lost |= word & 0xffff;
    }
    if (lost != 0) return false;
  }
  return true;
}

inline void toBrainFloats(const float* from, int64_t size, BrainFloat* to) {
  for (int64_t i = 0; i < size; i++) {
    uint32_t word;
    std::memcpy(&word, from + i, sizeof word);
    to[i].bits = static_cast<uint16_t>(word >> 16);
  }
}

}  // namespace
