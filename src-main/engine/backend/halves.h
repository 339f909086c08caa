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

// Two tiles of rows or of columns, each some tiles deep.
struct Panel {
  const Half *first, *second;

  Panel from(int64_t depth) const { return {first + depth * tileSize, second + depth * tileSize}; }
};

// A panel, and where operands are split what rounding took away from it.
struct Operand {
  Panel high, low = {nullptr, nullptr};

  bool split() const { return low.first != nullptr; }
  Operand from(int64_t depth) const { return {high.from(depth), split() ? low.from(depth) : low}; }
};

#if ESPALIER_TILES
template <bool Both>
inline void loadRows(const Panel& a, int64_t at) {
  _tile_loadd(4, a.first + at, 64);
  if (Both) _tile_loadd(5, a.second + at, 64);
}

inline void loadColumns(const Panel& b, int64_t at) {
  _tile_loadd(6, b.first + at, 64);
  _tile_loadd(7, b.second + at, 64);
}

template <bool Both>
inline void multiplyLoaded() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (!Both) return;
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

template <bool Both, bool Split>
inline void multiplyTiles(const Operand& a, const Operand& b, int depth) {
  for (int64_t at = 0; at < static_cast<int64_t>(depth) * tileSize; at += tileSize) {
    loadRows<Both>(a.high, at);
    if (Split) {
      loadColumns(b.low, at);
      multiplyLoaded<Both>();
    }
    loadColumns(b.high, at);
    multiplyLoaded<Both>();
    if (Split) {
      loadRows<Both>(a.low, at);
      multiplyLoaded<Both>();
    }
  }
}

template <bool Both>
inline void multiplyPanelTiles(const Operand& a, const Operand& b, int depth, float* c, int64_t stride, bool adds) {
  const int64_t bytes = stride * sizeof(float);
  float* below = c + tileSide * stride;
  if (adds) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + tileSide, bytes);
    if (Both) {
      _tile_loadd(2, below, bytes);
      _tile_loadd(3, below + tileSide, bytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  a.split() ? multiplyTiles<Both, true>(a, b, depth) : multiplyTiles<Both, false>(a, b, depth);
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + tileSide, bytes);
  if (!Both) return;
  _tile_stored(2, below, bytes);
  _tile_stored(3, below + tileSide, bytes);
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

inline void multiplyPanelVectors(const Panel& a, const Panel& b, int depth, float* c, int64_t stride, int rows, bool adds) {
  for (int row = 0; row < rows; row += 8) {
    const Half* left = (row < tileSide ? a.first : a.second) + row % tileSide * tileDepth;
    if (rows - row >= 8) {
      multiplyByVectors<8>(left, b, c + row * stride, stride, depth, adds);
    } else {
      for (int r = 0; r < rows - row; r++) multiplyByVectors<1>(left + r * tileDepth, b, c + (row + r) * stride, stride, depth, adds);
    }
  }
}

// c [32, 32] (+)= a b, of split operands all but low times low; of `rows` up to 16 only the first tile of rows is computed.
inline void multiplyPanels(Units units, const Operand& a, const Operand& b, int depth, float* c, int64_t stride, int rows, bool adds) {
#if ESPALIER_TILES
  if (units == matrixUnits)
    return rows > tileSide ? multiplyPanelTiles<true>(a, b, depth, c, stride, adds) : multiplyPanelTiles<false>(a, b, depth, c, stride, adds);
#endif
  multiplyPanelVectors(a.high, b.high, depth, c, stride, rows, adds);
  if (!a.split()) return;
  multiplyPanelVectors(a.high, b.low, depth, c, stride, rows, true);
  multiplyPanelVectors(a.low, b.high, depth, c, stride, rows, true);
}

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

inline __m512 widen(__m256bh halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)halves), 16));
}

// 32 values as halves, rounded to the nearest; or, where `low`, what that leaves of them.
inline __m512i roundHalves(__m512 a, __m512 b, bool low) {
  if (low) {
    a = _mm512_sub_ps(a, widen(_mm512_cvtneps_pbh(a)));
    b = _mm512_sub_ps(b, widen(_mm512_cvtneps_pbh(b)));
  }
  return (__m512i)_mm512_cvtne2ps_pbh(b, a);
}

inline void storeHalves(Half* to, __m512 a, __m512 b, bool low) { _mm512_storeu_si512(to, roundHalves(a, b, low)); }

// Rows of sixteen words become columns: pairs of rows, of pairs, and of quarters are woven into each other.
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

// A row of some values, `read(first, count)` sixteen of them, into row `row` of the left operand's tiles, which are `depth` deep; what
// rounding takes away from it into `low`, where that is.
template <class Read>
inline void packRow(const Read& read, int64_t size, Half* high, Half* low, int64_t row, int64_t depth) {
  const int64_t at = row / tileSide * depth * tileSize + row % tileSide * tileDepth;
  for (int64_t k = 0; k < depth; k++) {
    const int64_t first = k * tileDepth;
    const int left = static_cast<int>(std::min<int64_t>(size - first, tileDepth));
    const __m512 a = read(first, left), b = read(first + tileSide, left - tileSide);
    storeHalves(high + at + k * tileSize, a, b, false);
    if (low) storeHalves(low + at + k * tileSize, a, b, true);
  }
}

// Sixteen rows of a stored weight, of which `count` exist, to tiles of the right operand's columns, `depth` deep.
inline void packColumns(const float* from, int64_t columns, int count, Half* tiles, int64_t depth, bool low) {
  for (int64_t k = 0; k < depth; k++) {
    const int left = static_cast<int>(std::min<int64_t>(columns - k * tileDepth, tileDepth));
    __m512i pairs[tileSide] = {};
    for (int row = 0; row < count; row++) {
      const float* at = from + row * columns + k * tileDepth;
      pairs[row] = roundHalves(loadSome(at, left), loadSome(at + tileSide, left - tileSide), low);
    }
    transposeWords(pairs);
    for (int pair = 0; pair < tileSide; pair++) _mm512_storeu_si512(tiles + k * tileSize + pair * tileDepth, pairs[pair]);
  }
}

// 2^f for f from -0.5 to 0.5: within 2e-7 of it, or within 3e-6 where what comes of it is rounded to halves.
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

// exp(x - reference), where `shift` is the reference times `binaryLog`; what is no number stays none, infinities become so.
template <bool Rounded>
inline __m512 exponentAbove(__m512 x, __m512 shift) {
  const __m512 power = _mm512_fmsub_ps(x, _mm512_set1_ps(binaryLog), shift);
  const __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_scalef_ps(powerOfTwo<Rounded>(_mm512_sub_ps(power, whole)), whole);
}

// exp(x) where it does not overflow.
inline __m512 quickExponent(__m512 x) { return exponentAbove<false>(_mm512_max_ps(_mm512_set1_ps(-200), x), _mm512_setzero_ps()); }

#else

inline Units bestUnits() { return noUnits; }

#endif

}  // namespace
