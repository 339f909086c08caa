// Weights in groups of columns, each group with a factor and perhaps an addend: whole numbers, as the quantised blocks of a GGUF file hold
// them, or bfloat16 numbers. Products of whole numbers need fewer bits than float32 has, so an entry is computed without rounding where
// ggml's unpacking rounds nothing.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "stored-entries.h"
#include "vectors.h"

namespace {

// How groups are stored: bits of a number, columns of a group, and whether it has an addend.
struct GroupForm {
  int bits = 0, columns = 0;
  bool shifted = false;
};

// The form that can hold rows of both forms. A group of 4 bits has an addend, or its whole numbers start at -8.
inline GroupForm joined(const GroupForm& a, const GroupForm& b) {
  return {a.shifted == b.shifted ? std::max(a.bits, b.bits) : 8, std::min(a.columns, b.columns), a.shifted || b.shifted};
}

inline Vector toFloats(Integers integers) { return __builtin_convertvector(integers, Vector); }

inline Integers bytesFrom(const int8_t* from) {
#if defined(__AVX512F__)
  return (Integers)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__AVX2__)
  return (Integers)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  Integers integers;
  for (int i = 0; i < lanes; i++) integers[i] = from[i];
  return integers;
#endif
}

// One group from each of four rows, side by side, so that one stream of memory feeds four sums. With 4 bits, the lower halves of a row's
// bytes hold the first half of its columns. Its whole numbers are signed if the group has no addend.
template <int Bits, int Columns, bool Shifted>
struct FourGroups {
  static constexpr int columns = Columns;
  static constexpr GroupForm form{Bits, Columns, Shifted};

  float numbers[Shifted ? 8 : 4];
  int8_t entries[4][Columns * Bits / 8];

  // The entries of a row, starting at column `first`.
  Vector values(int row, int first) const {
    if constexpr (Bits == 16) return scaled(row, load(reinterpret_cast<const BrainFloat*>(entries[row]) + first));
    else if constexpr (Bits == 8) return scaled(row, toFloats(bytesFrom(entries[row] + first)));
    else {
      const Integers pairs = bytesFrom(entries[row] + first % (Columns / 2));
      const bool isLower = first < Columns / 2;
#if defined(__AVX512F__)
      // One of the sixteen possible entries, which are computed once per group.
      const Integers halves = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      const Integers wholes = Shifted ? halves : halves << 28 >> 28;
      return (Vector)_mm512_permutexvar_ps((__m512i)(isLower ? pairs : pairs >> 4), (__m512)scaled(row, toFloats(wholes)));
#else
      if constexpr (Shifted) return scaled(row, toFloats((isLower ? pairs : pairs >> 4) & 15));
      return scaled(row, toFloats(isLower ? pairs << 28 >> 28 : pairs >> 4));
#endif
    }
  }

  // Sets bfloat16 numbers.
  void set(int row, float factor, const float* values) {
    numbers[row] = factor;
    convert(values, Columns, reinterpret_cast<BrainFloat*>(entries[row]));
  }

  void set(int row, float factor, float shift, const int8_t* wholes) {
    numbers[row] = factor;
    if constexpr (Shifted) numbers[4 + row] = shift;
    for (int i = 0; i < Columns * Bits / 8; i++) {
      if constexpr (Bits == 8) entries[row][i] = wholes[i];
      else entries[row][i] = static_cast<int8_t>((wholes[i] & 15) | (wholes[i + Columns / 2] & 15) << 4);
    }
  }

 private:
  Vector scaled(int row, Vector wholes) const {
    if constexpr (Shifted) return multiplyAdd(wholes, all(numbers[row]), all(numbers[4 + row]));
    return wholes * all(numbers[row]);
  }
};

// Rows of bfloat16 numbers and their factors.
typedef FourGroups<16, 64, false> FactoredFours;

// Calls `act` with a value of each form, the smallest first, until it returns true.
template <class Act>
bool anyForm(const Act& act) {
  return act(FourGroups<4, 32, false>{}) || act(FourGroups<4, 32, true>{}) || act(FourGroups<8, 32, false>{}) || act(FourGroups<8, 16, false>{}) ||
         act(FourGroups<8, 16, true>{}) || act(FactoredFours{});
}

// Calls `act` with a value of the first form that can hold groups of this one.
template <class Act>
void withForm(const GroupForm& wanted, const Act& act) {
  anyForm([&](auto groups) {
    constexpr GroupForm form = decltype(groups)::form;
    const bool holds = form.bits >= wanted.bits && form.columns <= wanted.columns && (form.shifted || !wanted.shifted);
    if (holds) act(groups);
    return holds;
  });
}

// Finds the form of rows of `columns` entries by the number and the words of their groups.
inline bool findForm(int64_t words, int64_t columns, int64_t groups, GroupForm& to) {
  return anyForm([&](auto one) {
    to = decltype(one)::form;
    return static_cast<int64_t>(sizeof one / 4) == words && groups * to.columns == columns;
  });
}

}  // namespace
