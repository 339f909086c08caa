// Weights in 16 bits where this is lossless: as bfloat16 (the upper halves of float32 values) or as float16. Vectors of four rows
// alternate, so that one stream of memory feeds four sums. A single sum waits for itself: it took twice as long on a core with AVX2.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
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
  // Intrinsics, because the compiler needs twice the instructions for the generic code.
#if defined(__AVX512F__)
  return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16);
#elif defined(__AVX2__)
  return (Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16);
#else
  Shorts shorts;
  std::memcpy(&shorts, from, sizeof shorts);
  const Words words = __builtin_convertvector(shorts, Words) << 16;
  Vector vector;
  std::memcpy(&vector, &words, sizeof vector);
  return vector;
#endif
}

#if defined(__AVX512F__)
#define ESPALIER_FLOAT16 1

struct Float16 {
  uint16_t bits;
};

inline Vector load(const Float16* from) { return (Vector)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }

inline float valueOf(Float16 value) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(value.bits))); }

inline __m256i toFloat16(const float* from) { return _mm512_cvtps_ph(_mm512_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// Like `areBrainFloats`, for whole vectors only.
inline bool areFloat16(const float* from, int64_t size) {
  for (int64_t i = 0; i < size; i += lanes) {
    const __m512i again = _mm512_castps_si512(_mm512_cvtph_ps(toFloat16(from + i)));
    if (_mm512_cmpneq_epi32_mask(again, _mm512_loadu_si512(from + i))) return false;
  }
  return true;
}

inline void convert(const float* from, int64_t size, Float16* to) {
  for (int64_t i = 0; i < size; i += lanes) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), toFloat16(from + i));
}
#endif

inline float valueOf(float value) { return value; }

inline float valueOf(BrainFloat value) {
  const uint32_t word = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &word, sizeof wide);
  return wide;
}

// Whether bfloat16 represents all values exactly.
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

// The factor that the first `rows` rows of a weight were multiplied by, as float32 numbers.
struct RowFactor {
  int64_t rows = 0;
  float by = 1;
};

// Divides values by a factor and rounds to bfloat16 numbers. Returns whether these times the factor are the values again, bit for bit.
inline bool divide(const float* from, int64_t size, float factor, float* to) {
  const float inverse = 1 / factor;
  uint32_t lost = 0;
  for (int64_t i = 0; i < size; i++) {
    const float quotient = from[i] * inverse;
    uint32_t word, before, after;
    std::memcpy(&word, &quotient, sizeof word);
    word = (word + 0x8000) & 0xffff0000;
    std::memcpy(to + i, &word, sizeof word);
    const float again = to[i] * factor;
    std::memcpy(&before, from + i, sizeof before);
    std::memcpy(&after, &again, sizeof after);
    lost |= before ^ after;
  }
  return lost == 0;
}

// The same for values of which the first `divided` are divided by a factor first.
inline bool areBrainFloats(const float* from, int64_t size, int64_t divided, float factor) {
  constexpr int64_t piece = 1 << 12;
  float quotients[piece];
  for (int64_t first = 0; first < divided; first += piece)
    if (!divide(from + first, std::min(piece, divided - first), factor, quotients)) return false;
  return areBrainFloats(from + divided, size - divided);
}

inline void convert(const float* from, int64_t size, BrainFloat* to) {
  for (int64_t i = 0; i < size; i++) {
    uint32_t word;
    std::memcpy(&word, from + i, sizeof word);
    to[i].bits = static_cast<uint16_t>(word >> 16);
  }
}

// One vector from each of four rows.
template <class Entry>
struct FourEntries {
  static constexpr int columns = lanes;

  Entry entries[4][lanes];

  Vector values(int row, int) const { return load(entries[row]); }
};

// Converts rows [first, last) of a weight. Both are multiples of four, except that `last` may be the end, where remaining rows are stored
// one by one.
template <class Entry>
void interleave(const float* from, int64_t columns, int64_t first, int64_t last, Entry* to) {
  for (int64_t row = first; row < last; row += 4) {
    const float* own = from + row * columns;
    Entry* out = to + row * columns;
    if (last - row < 4) return convert(own, (last - row) * columns, out);
    for (int64_t i = 0; i < 4 * columns; i += lanes) convert(own + i / lanes % 4 * columns + i / (4 * lanes) * lanes, lanes, out + i);
  }
}

}  // namespace
