// Products of panels by matrix units whose instructions are computed step by step here, against those by vectors and in double. Prints the
// largest difference of each kind, relative to the largest entry.

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#define ESPALIER_TILES 1
static float tiles[8][256];

static void loadTile(float* tile, const void* from, int64_t stride) {
  for (int row = 0; row < 16; row++) std::memcpy(tile + row * 16, static_cast<const char*>(from) + row * stride, 64);
}

static void storeTile(const float* tile, void* to, int64_t stride) {
  for (int row = 0; row < 16; row++) std::memcpy(static_cast<char*>(to) + row * stride, tile + row * 16, 64);
}

static float half(const float* tile, int index) {
  const uint32_t bits = static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(tile)[index]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static void dotTiles(float* c, const float* a, const float* b) {
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < 16; k++)
      for (int column = 0; column < 16; column++)
        for (int side = 0; side < 2; side++) c[row * 16 + column] += half(a, row * 32 + 2 * k + side) * half(b, k * 32 + 2 * column + side);
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadd(tile, from, stride) loadTile(tiles[tile], from, stride)
#define _tile_stored(tile, to, stride) storeTile(tiles[tile], to, stride)
#define _tile_zero(tile) std::memset(tiles[tile], 0, sizeof tiles[tile])
#define _tile_dpbf16ps(c, a, b) dotTiles(tiles[c], tiles[a], tiles[b])
#define _tile_loadconfig(shapes) (void)(shapes)
#define _tile_release() (void)0

#include "bf16/bf16-tile-products.h"

static double largest(const float* a, const double* b) {
  double worst = 0, scale = 0;
  for (int i = 0; i < panelSide * panelSide; i++) worst = std::max(worst, std::abs(a[i] - b[i])), scale = std::max(scale, std::abs(b[i]));
  return worst / scale;
}

int main() {
  constexpr int depth = 9, size = depth * tileDepth;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int parts = 1; parts <= 3; parts++) {
    const bool splitRows = parts > 1, splitWeight = parts > 2;
    std::vector<float> x(panelSide * size), weight(panelSide * size);
    for (float& value : x) value = normal(random);
    for (float& value : weight) value = normal(random);
    if (!splitWeight)
      for (float& value : weight) value = std::ldexp(std::round(std::ldexp(value, 5)), -5);
    std::vector<Bf16> packed(4 * panelSide * size);
    Bf16 *high = packed.data(), *low = high + panelSide * size, *right = low + panelSide * size, *rest = right + panelSide * size;
    for (int row = 0; row < panelSide; row++)
      packRow([&](int64_t at, int count) { return loadSome(x.data() + row * size + at, count); }, size, {high, panelSide * size, 2, depth}, row);
    for (int tile = 0; tile < 2; tile++) {
      packColumns(weight.data() + tile * tileSide * size, size, tileSide, right + tile * tileSide * size, depth, false);
      packColumns(weight.data() + tile * tileSide * size, size, tileSide, rest + tile * tileSide * size, depth, true);
    }
    const auto panel = [](const Bf16* of) { return Panel{of, of + tileSide * size}; };
    const Operand a{panel(high), splitRows ? panel(low) : Panel{}}, b{panel(right), splitWeight ? panel(rest) : Panel{}};
    std::vector<double> exact(panelSide * panelSide);
    for (int row = 0; row < panelSide; row++)
      for (int column = 0; column < panelSide; column++)
        for (int i = 0; i < size; i++) exact[row * panelSide + column] += static_cast<double>(x[row * size + i]) * weight[column * size + i];
    for (const Units units : {vectorUnits, matrixUnits}) {
      alignas(64) float c[panelSide * panelSide];
      multiplyPanels(units, a, b, depth, c, panelSide, panelSide, false);
      std::printf("%.2e ", largest(c, exact.data()));
    }
  }
}
