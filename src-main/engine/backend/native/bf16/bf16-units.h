// Processor units that multiply bfloat16 operands and sum in float32: matrix units (AMX) or vectors (AVX-512 BF16).

#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__) && defined(__linux__) && defined(__AVX512F__) && defined(__AVX512BF16__)
#define ESPALIER_BF16 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__AMX_BF16__) && defined(__AMX_TILE__)
#define ESPALIER_TILES 1
#endif
#endif

namespace {

// TypeScript uses the same numbers for the units.
enum Units { noUnits, vectorUnits, matrixUnits };

#if ESPALIER_BF16

// Asks the system for the matrix units' registers, which it grants once per process.
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

// Configures the tile registers for one task of a thread, because other code may have changed them. At its end, what the task stored past
// the caches becomes visible to other threads.
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
    _mm_sfence();
#if ESPALIER_TILES
    if (used_) _tile_release();
#endif
  }
  TileRegisters(const TileRegisters&) = delete;

 private:
  const bool used_;
};

// The requested units, or the best available below them.
Units unitsFor(int wanted) { return std::min(static_cast<Units>(wanted), bestUnits()); }

#else

inline Units bestUnits() { return noUnits; }

#endif

}  // namespace
