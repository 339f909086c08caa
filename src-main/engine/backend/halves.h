// Products of bfloat16 operands with float32 sums, on a processor's matrix units (AMX) or its vectors (AVX-512 BF16).
// Operands lie in tiles of 1 KiB: of the left one [16 rows][32 deep], of the right one [16 pairs deep][16 columns][2], as both units read them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__) && defined(__AVX512F__) && defined(__AVX512BF16__)
#define ESPALIER_HALVES 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__AMX_BF16__) && defined(__AMX_TILE__)
#define ESPALIER_TILES 1
#endif
#endif

namespace {

typedef uint16_t Half;

constexpr int tileSide = 16, tileDepth = 32, tileSize = tileSide * tileDepth;
// Rows and columns of a panel: two tiles each.
constexpr int panelSide = 2 * tileSide;

inline int64_t roundUp(int64_t size, int64_t multiple) { return (size + multiple - 1) / multiple * multiple; }

// What multiplies halves here.
enum Units { noUnits, vectorUnits, matrixUnits };

#if ESPALIER_HALVES

// Asks the system for the registers of the matrix units, which it grants a process once.
inline Units findUnits() {
#if ESPALIER_TILES
  constexpr int requestPermission = 0x1023, tileData = 18;
  if (syscall(SYS_arch_prctl, requestPermission, tileData) == 0) return matrixUnits;
#endif
  return vectorUnits;
}

inline Units bestUnits() {
  static const Units units = findUnits();
  return units;
}

// Shapes of the tile registers for one task of a thread, as others may have used them.
class TileRegisters {
 public:
  explicit TileRegisters(Units units) : used_(units == matrixUnits) {
#if ESPALIER_TILES
    if (!used_) return;
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shapes;
    _tile_loadconfig(&shapes);
#endif
  }
  ~TileRegisters() {
#if ESPALIER_TILES
    if (used_) _tile_release();
#endif
  }
  TileRegisters(const TileRegisters&) = delete;

 private:
  const bool used_;
};

// Two tiles of rows or of columns, each `depth` tiles deep.
struct Panel {
  const Half *first, *second;
};

#if ESPALIER_TILES
template <bool Both>
inline void multiplyTiles(Panel a, Panel b, int depth) {
  for (int k = 0; k < depth; k++) {
    _tile_loadd(4, a.first + k * tileSize, 64);
    _tile_loadd(6, b.first + k * tileSize, 64);
    _tile_loadd(7, b.second + k * tileSize, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (Both) {
      _tile_loadd(5, a.second + k * tileSize, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
}
#endif

template <int Rows>
inline void multiplyByVectors(const Half* a, Panel b, float* c, int64_t stride, int depth, bool adds) {
  __m512 sum[Rows][2];
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) sum[row][v] = adds ? _mm512_loadu_ps(c + row * stride + v * tileSide) : _mm512_setzero_ps();
  for (int k = 0; k < depth; k++) {
    for (int pair = 0; pair < tileSide; pair++) {
      const int64_t at = static_cast<int64_t>(k) * tileSize + pair * tileDepth;
      const __m512bh right[2] = {(__m512bh)_mm512_loadu_si512(b.first + at), (__m512bh)_mm512_loadu_si512(b.second + at)};
      for (int row = 0; row < Rows; row++) {
        int32_t both;
        std::memcpy(&both, a + static_cast<int64_t>(k) * tileSize + row * tileDepth + 2 * pair, sizeof both);
        const __m512bh left = (__m512bh)_mm512_set1_epi32(both);
        for (int v = 0; v < 2; v++) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], left, right[v]);
      }
    }
  }
  for (int row = 0; row < Rows; row++)
    for (int v = 0; v < 2; v++) _mm512_storeu_ps(c + row * stride + v * tileSide, sum[row][v]);
}

// c [32, 32] (+)= the sum of the products of `count` pairs of panels; of `rows` up to 16 only the first tile of rows is computed.
inline void multiplyPanels(Units units, const Panel* a, const Panel* b, int count, int depth, float* c, int64_t stride, int rows,
                           bool adds) {
#if ESPALIER_TILES
  if (units == matrixUnits) {
    const int64_t bytes = stride * sizeof(float);
    const bool both = rows > tileSide;
    if (adds) {
      _tile_loadd(0, c, bytes);
      _tile_loadd(1, c + tileSide, bytes);
      if (both) {
        _tile_loadd(2, c + tileSide * stride, bytes);
        _tile_loadd(3, c + tileSide * stride + tileSide, bytes);
      }
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int i = 0; i < count; i++) both ? multiplyTiles<true>(a[i], b[i], depth) : multiplyTiles<false>(a[i], b[i], depth);
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + tileSide, bytes);
    if (both) {
      _tile_stored(2, c + tileSide * stride, bytes);
      _tile_stored(3, c + tileSide * stride + tileSide, bytes);
    }
    return;
  }
#endif
  for (int i = 0; i < count; i++) {
    for (int row = 0; row < rows; row += 8) {
      const Half* left = (row < tileSide ? a[i].first : a[i].second) + row % tileSide * tileDepth;
      if (rows - row >= 8 || units == matrixUnits) {
        multiplyByVectors<8>(left, b[i], c + row * stride, stride, depth, adds || i > 0);
      } else {
        for (int r = 0; r < rows - row; r++)
          multiplyByVectors<1>(left + r * tileDepth, b[i], c + (row + r) * stride, stride, depth, adds || i > 0);
      }
    }
  }
}

inline __m512 loadSome(const float* from, int count) {
  return count >= tileSide ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << std::max(count, 0)) - 1), from);
}

inline void storeSome(float* to, __m512 value, int count) {
  if (count >= tileSide) _mm512_storeu_ps(to, value);
  else _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << std::max(count, 0)) - 1), value);
}

inline __m512 widen(__m256bh halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16));
}

// 32 values as halves, rounded to the nearest; or, where `low`, what that leaves of them.
inline void storeHalves(Half* to, __m512 a, __m512 b, bool low) {
  if (low) {
    a = _mm512_sub_ps(a, widen(_mm512_cvtneps_pbh(a)));
    b = _mm512_sub_ps(b, widen(_mm512_cvtneps_pbh(b)));
  }
  _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

// A row [size] into row `row` of the left operand's tiles, which are `depth` deep; zeros behind its end.
inline void packRow(const float* from, int64_t size, Half* tiles, int64_t row, int64_t depth, bool low) {
  Half* to = tiles + row / tileSide * depth * tileSize + row % tileSide * tileDepth;
  for (int64_t k = 0; k < depth; k++) {
    const int left = static_cast<int>(std::min<int64_t>(size - k * tileDepth, tileDepth));
    storeHalves(to + k * tileSize, loadSome(from + k * tileDepth, left), loadSome(from + k * tileDepth + tileSide, left - tileSide), low);
  }
}

// Sixteen rows of a stored weight, of which `count` exist, to tiles of the right operand's columns, `depth` deep.
inline void packColumns(const float* from, int64_t columns, int count, Half* tiles, int64_t depth, bool low) {
  for (int64_t k = 0; k < depth; k++) {
    uint32_t* to = reinterpret_cast<uint32_t*>(tiles + k * tileSize);
    const int left = static_cast<int>(std::min<int64_t>(columns - k * tileDepth, tileDepth));
    for (int row = 0; row < tileSide; row++) {
      alignas(64) uint32_t pairs[tileSide] = {};
      if (row < count) {
        const float* at = from + row * columns + k * tileDepth;
        storeHalves(reinterpret_cast<Half*>(pairs), loadSome(at, left), loadSome(at + tileSide, left - tileSide), low);
      }
      for (int pair = 0; pair < tileSide; pair++) to[pair * tileSide + row] = pairs[pair];
    }
  }
}

// exp within 3e-7 of it, up to where it overflows: 2^x split into a power and a polynomial of degree 6. What is no number stays none.
inline __m512 quickExponent(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-200), x);
  const __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(power, whole);
  __m512 y = _mm512_set1_ps(1.5403530e-4f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.3333558e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.6181291e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5504109e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4022651e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9314718e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}

#else

inline Units bestUnits() { return noUnits; }

#endif

}  // namespace
