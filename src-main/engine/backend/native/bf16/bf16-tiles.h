// 16-bit operands in tiles of 1 KiB, in the layout that both units read: [16 rows][32 deep] for the left operand, [16 pairs deep][16
// columns][2] for the right one. Also rounds values and packs them into tiles.

#pragma once

#include <algorithm>
#include <cstdint>

#include "../vectors.h"
#include "bf16-units.h"

#if ESPALIER_BF16

namespace {

typedef uint16_t Bf16;

constexpr int tileSide = 16, tileDepth = 32, tileSize = tileSide * tileDepth;
// Rows and columns of a panel: two tiles each.
constexpr int panelSide = 2 * tileSide;

// Two tiles of rows or columns, each a number of tiles deep; null for none.
struct Panel {
  const Bf16 *first = nullptr, *second = nullptr;

  explicit operator bool() const { return first != nullptr; }
  Panel from(int64_t depth) const { return *this ? Panel{first + depth * tileSize, second + depth * tileSize} : *this; }
};

// A panel and, if it is split, its rounding remainder.
struct Operand {
  Panel high, low = {};

  bool split() const { return static_cast<bool>(low); }
  Operand from(int64_t depth) const { return {high.from(depth), low.from(depth)}; }
};

inline __mmask16 firstLanes(int count) {
  return static_cast<__mmask16>(count >= tileSide ? 0xffff : (1u << std::max(count, 0)) - 1);
}

inline __m512 loadSome(const float* from, int count) {
  return count >= tileSide ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(firstLanes(count), from);
}

inline void storeSome(float* to, __m512 value, int count) {
  if (count >= tileSide) _mm512_storeu_ps(to, value);
  else _mm512_mask_storeu_ps(to, firstLanes(count), value);
}

// Whether the rows of an output, which has `size` numbers, are stored past the caches. The caches would drop the lines of a large one before
// anything reads them, and fetching the lines that they replace can take as long as the product.
inline bool passesCaches(const float* to, int64_t columns, int64_t size) {
  constexpr int64_t large = 1 << 18;
  return size > large && columns % tileSide == 0 && reinterpret_cast<uintptr_t>(to) % (tileSide * sizeof(float)) == 0;
}

inline void storeOutput(float* to, __m512 value, int count, bool passes) {
  if (passes) _mm512_stream_ps(to, value);
  else storeSome(to, value, count);
}

inline __m512 widen(__m256bh halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16));
}

// 32 values rounded to the nearest halves.
inline __m512i roundToBf16(__m512 a, __m512 b) { return (__m512i)_mm512_cvtne2ps_pbh(b, a); }

// Sixteen of 32 halves, starting at `First`, as float32.
template <int First>
inline __m512 widenFrom(__m512i halves) {
  constexpr int f = First;
  alignas(64) static constexpr uint16_t order[2 * tileSide] = {0, f,     0, f + 1, 0, f + 2,  0, f + 3,  0, f + 4,  0, f + 5,  0, f + 6,  0, f + 7,
                                                               0, f + 8, 0, f + 9, 0, f + 10, 0, f + 11, 0, f + 12, 0, f + 13, 0, f + 14, 0, f + 15};
  return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, _mm512_load_si512(order), halves));
}

// Rounds 32 values to the nearest halves and leaves what that removed, which is exact.
inline __m512i takeBf16(__m512& a, __m512& b) {
  const __m512i halves = roundToBf16(a, b);
  a = _mm512_sub_ps(a, widenFrom<0>(halves));
  b = _mm512_sub_ps(b, widenFrom<tileSide>(halves));
  return halves;
}

// 32 values rounded to the nearest halves or, with `low`, their rounding remainders as halves.
inline __m512i roundToBf16(__m512 a, __m512 b, bool low) {
  if (low) takeBf16(a, b);
  return roundToBf16(a, b);
}

// Transposes sixteen rows of sixteen words by interleaving pairs of rows, then pairs of those, then quarters.
inline void transposeWords(__m512i rows[tileSide]) {
  __m512i woven[tileSide];
  for (int i = 0; i < tileSide; i += 2) {
    woven[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    woven[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < tileSide; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(woven[i], woven[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(woven[i], woven[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(woven[i + 1], woven[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(woven[i + 1], woven[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    for (int half = 0; half < tileSide; half += 8) {
      woven[half + i] = _mm512_shuffle_i32x4(rows[half + i], rows[half + 4 + i], 0x88);
      woven[half + 4 + i] = _mm512_shuffle_i32x4(rows[half + i], rows[half + 4 + i], 0xdd);
    }
  }
  for (int i = 0; i < 4; i++) {
    rows[i] = _mm512_shuffle_i32x4(woven[i], woven[8 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(woven[i], woven[8 + i], 0xdd);
    rows[4 + i] = _mm512_shuffle_i32x4(woven[4 + i], woven[12 + i], 0x88);
    rows[12 + i] = _mm512_shuffle_i32x4(woven[4 + i], woven[12 + i], 0xdd);
  }
}

// One to three parts of a left operand, one after another: the numbers rounded to halves, what that removed, and what rounding that
// removed. Three parts hold all bits of a float32 number. Each has `halves` entries, in tiles that are `depth` deep.
struct RowParts {
  Bf16* tiles;
  int64_t halves;
  int parts;
  int64_t depth;
};

// Packs a row into row `row` of a left operand; `read(first, count)` returns sixteen values.
template <class Read>
inline void packRow(const Read& read, int64_t size, const RowParts& to, int64_t row) {
  const auto [tiles, halves, parts, depth] = to;
  const int64_t at = row / tileSide * depth * tileSize + row % tileSide * tileDepth;
  for (int64_t k = 0; k < depth; k++) {
    const int64_t first = k * tileDepth;
    const int left = static_cast<int>(std::min<int64_t>(size - first, tileDepth));
    __m512 a = read(first, left), b = read(first + tileSide, left - tileSide);
    for (int part = 0; part < parts; part++) {
      const __m512i own = part + 1 < parts ? takeBf16(a, b) : roundToBf16(a, b);
      _mm512_storeu_si512(tiles + part * halves + at + k * tileSize, own);
    }
  }
}

// Packs sixteen rows of a stored weight, of which `count` exist, into tiles of the right operand's columns, `depth` deep.
inline void packColumns(const float* from, int64_t columns, int count, Bf16* tiles, int64_t depth, bool low) {
  for (int64_t k = 0; k < depth; k++) {
    const int left = static_cast<int>(std::min<int64_t>(columns - k * tileDepth, tileDepth));
    __m512i pairs[tileSide] = {};
    for (int row = 0; row < count; row++) {
      const float* at = from + row * columns + k * tileDepth;
      pairs[row] = roundToBf16(loadSome(at, left), loadSome(at + tileSide, left - tileSide), low);
    }
    transposeWords(pairs);
    for (int pair = 0; pair < tileSide; pair++) _mm512_storeu_si512(tiles + k * tileSize + pair * tileDepth, pairs[pair]);
  }
}

// Two rows of sixteen values as pairs of halves: word i holds value i of both.
inline __m512i pairRows(__m512 first, __m512 second, bool low) {
  alignas(64) static constexpr uint16_t order[2 * tileSide] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                               8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), roundToBf16(first, second, low));
}

// Pairs rows of x [rows, ...], taking `columns` entries of each, starting at `from`: pairs[i] holds rows 2 i and 2 i + 1, with zeros after
// the last.
inline void pairsOf(const float* from, int64_t stride, int rows, int columns, __m512i pairs[tileSide], bool low) {
  const auto row = [&](int index) { return index < rows ? loadSome(from + index * stride, columns) : _mm512_setzero_ps(); };
  for (int pair = 0; pair < tileSide; pair++) pairs[pair] = pairRows(row(2 * pair), row(2 * pair + 1), low);
}

// Like `packColumns` and `packRow`, for a matrix stored transposed, [depth, sides]: packs up to 32 of its rows into one tile of the right
// or left operand.
inline void packTransposedColumns(const float* from, int64_t stride, int rows, int columns, Bf16* tile, bool low) {
  __m512i pairs[tileSide];
  pairsOf(from, stride, rows, columns, pairs, low);
  for (int pair = 0; pair < tileSide; pair++) _mm512_storeu_si512(tile + pair * tileDepth, pairs[pair]);
}

inline void packTransposedRows(const float* from, int64_t stride, int rows, int columns, Bf16* tile) {
  __m512i pairs[tileSide];
  pairsOf(from, stride, rows, columns, pairs, false);
  transposeWords(pairs);
  for (int row = 0; row < tileSide; row++) _mm512_storeu_si512(tile + row * tileDepth, pairs[row]);
}

}  // namespace

#endif
