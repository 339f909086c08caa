// Attention with products of 16-bit operands.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../attention.h"
#include "half-exponent.h"
#include "half-tile-products.h"
#include "half-weights.h"

#if ESPALIER_HALVES

namespace {

// Keys and values of one call as tiles of right operands: keys [S / 16][d / 32], values [d / 16][S / 32], with d and S rounded up. If
// operands are split, the rounding remainder follows each.
template <bool Split>
struct HalfAttention {
  static constexpr int parts = Split ? 2 : 1, keysAtOnce = 128, rowsAtOnce = 128;
  // The reference of exponentials moves only when a score exceeds it by more than this.
  static constexpr float slack = 20;
  // The truth table of `a | b | c`.
  static constexpr int anyOfThree = 0xfe;

  const Attention& call;
  Units units;
  int size, depth, positions;

  HalfAttention(const Attention& call, Units units)
      : call(call),
        units(units),
        size(static_cast<int>(roundUp(call.headSize, tileDepth))),
        depth(size / tileDepth),
        positions(static_cast<int>(roundUp(call.tokens, tileDepth))) {}

  int64_t halves() const { return static_cast<int64_t>(size) * positions; }

  // The same as `Attention::rotate`, sixteen numbers at a time.
  void rotate(const float* from, int token, float* to) const {
    const int half = call.rotated / 2;
    const float *cosine = call.cosine + static_cast<size_t>(token) * half, *sine = call.sine + static_cast<size_t>(token) * half;
    for (int i = 0; i < half; i += tileSide) {
      const int width = half - i;
      const __m512 first = loadSome(from + i, width), second = loadSome(from + half + i, width);
      const __m512 c = loadSome(cosine + i, width), s = loadSome(sine + i, width);
      storeSome(to + i, _mm512_fmsub_ps(first, c, _mm512_mul_ps(second, s)), width);
      storeSome(to + half + i, _mm512_fmadd_ps(second, c, _mm512_mul_ps(first, s)), width);
    }
    std::copy(from + call.rotated, from + call.headSize, to + call.rotated);
  }

  void packKeys(int pair, int first, Half* keys, Half* values) const {
    const int sample = pair / call.keyValueHeads, group = pair % call.keyValueHeads, count = std::min(tileDepth, call.tokens - first);
    float *key = scratch<1>(static_cast<size_t>(2 * tileDepth) * size), *value = key + tileDepth * size;
    std::fill(key, key + 2 * tileDepth * size, 0.0f);
    for (int i = 0; i < count; i++) {
      rotate(call.vectorOf(sample, first + i, call.heads + group), first + i, key + i * size);
      const float* from = call.vectorOf(sample, first + i, call.heads + call.keyValueHeads + group);
      std::copy(from, from + call.headSize, value + i * size);
    }
    for (int part = 0; part < parts; part++, keys += halves(), values += halves()) {
      for (int row = 0; row < tileDepth; row += tileSide) packColumns(key + row * size, size, tileSide, keys + (first + row) * size, depth, part == 1);
      for (int d = 0; d < size; d += tileSide)
        packTransposedColumns(value + d, size, tileDepth, tileSide, values + static_cast<int64_t>(d) * positions + first / tileDepth * tileSize, part == 1);
    }
  }

  // The running softmax of a query row. Exponentials are relative to a reference near the largest score, and are summed per lane.
  struct Row {
    float reference = -std::numeric_limits<float>::infinity();
    __m512 total = _mm512_setzero_ps();
  };

  Operand operand(const Half* tiles, int64_t second, int64_t low) const {
    return {{tiles, tiles + second}, Split ? Panel{tiles + low, tiles + low + second} : Panel{}};
  }

  // Turns scores [0, seen) of a row, of which [low, high) count, into exponentials in row `row` of a left operand. `mixed` holds the result
  // for earlier keys, and is rescaled when the reference moves.
  void takeRow(Row& state, float* scores, int seen, int low, int high, Half* weights, int row, int deep, float* mixed) const {
    constexpr float hidden = -1e30f;
    Half* to = weights + row / tileSide * deep * tileSize + row % tileSide * tileDepth;
    const int64_t below = static_cast<int64_t>(panelSide) * keysAtOnce;
    if (high <= low) {
      for (int i = 0; i < seen; i += tileDepth)
        for (int part = 0; part < parts; part++) _mm512_storeu_si512(to + part * below + i / tileDepth * tileSize, _mm512_setzero_si512());
      return;
    }
    if (low > 0) std::fill(scores, scores + low, hidden);
    if (high < seen) std::fill(scores + high, scores + seen, hidden);
    switch (seen / tileDepth) {
      case 1: return takeScores<1>(state, scores, to, mixed);
      case 2: return takeScores<2>(state, scores, to, mixed);
      case 3: return takeScores<3>(state, scores, to, mixed);
      default: return takeScores<keysAtOnce / tileDepth>(state, scores, to, mixed);
    }
  }

  // The same for scores that fill `Deep` tiles. Looks for scores above the limit by signs of differences: while matrix units work, that is
  // faster than comparisons or the largest score.
  template <int Deep>
  void takeScores(Row& state, const float* scores, Half* to, float* mixed) const {
    const __m512 limit = _mm512_set1_ps(state.reference + slack);
    const auto below = [&](int at) { return _mm512_castps_si512(_mm512_sub_ps(limit, _mm512_load_ps(scores + at))); };
    __m512i signs = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < Deep * tileDepth; i += tileDepth) signs = _mm512_ternarylogic_epi32(signs, below(i), below(i + tileSide), anyOfThree);
    if (_mm512_movepi32_mask(signs)) moveReference(state, largestOf(scores, Deep * tileDepth), mixed);
    const __m512 shift = _mm512_set1_ps(state.reference * binaryLog);
    __m512 total = state.total;
#pragma GCC unroll 4
    for (int i = 0; i < Deep; i++) {
      __m512 a = exponentAbove<!Split>(_mm512_load_ps(scores + i * tileDepth), shift);
      __m512 b = exponentAbove<!Split>(_mm512_load_ps(scores + i * tileDepth + tileSide), shift);
      total = _mm512_add_ps(total, _mm512_add_ps(a, b));
      _mm512_store_si512(to + i * tileSize, Split ? takeHalves(a, b) : roundHalves(a, b));
      if (Split) _mm512_store_si512(to + panelSide * keysAtOnce + i * tileSize, roundHalves(a, b));
    }
    state.total = total;
  }

  static float largestOf(const float* scores, int count) {
    __m512 most = _mm512_load_ps(scores);
    for (int i = tileSide; i < count; i += tileSide) most = _mm512_max_ps(most, _mm512_load_ps(scores + i));
    return _mm512_reduce_max_ps(most);
  }

  void moveReference(Row& state, float reference, float* mixed) const {
    const __m512 rescale = _mm512_set1_ps(std::exp(state.reference - reference));
    state.reference = reference;
    state.total = _mm512_mul_ps(state.total, rescale);
    for (int i = 0; i < size; i += tileSide) _mm512_store_ps(mixed + i, _mm512_mul_ps(_mm512_load_ps(mixed + i), rescale));
  }

  // The buffers of one task: queries as left operands and results in float32, and for each of two pieces scores in float32 and weights as
  // left operands.
  struct Workspace {
    float *scores, *mixed, *query;
    Half *queries, *weights;
    Row* states;
  };

  Workspace workspace() const {
    constexpr size_t piece = static_cast<size_t>(panelSide) * keysAtOnce;
    float* floats = scratch<1>(2 * piece + static_cast<size_t>(rowsAtOnce + 1) * size);
    Half* halves = halfScratch<5>(parts * (static_cast<size_t>(rowsAtOnce) * size + 2 * piece));
    Row* states = reinterpret_cast<Row*>(scratch<6>(rowsAtOnce * sizeof(Row) / sizeof(float)));
    float* mixed = floats + 2 * piece;
    return {floats, mixed, mixed + rowsAtOnce * size, halves, halves + parts * rowsAtOnce * size, states};
  }

  void packQueries(const Workspace& work, int sample, int head, int first, int count) const {
    const auto vectorOf = [&](int row) { return call.vectorOf(sample, first + row, head); };
    for (int row = 0; row < count; row++)
      for (int i = 0; i < call.headSize; i += tileSide) _mm_prefetch(reinterpret_cast<const char*>(vectorOf(row) + i), _MM_HINT_T0);
    std::fill(work.query, work.query + size, 0.0f);
    const auto read = [&](int64_t at, int) { return _mm512_load_ps(work.query + at); };
    for (int row = 0; row < roundUp(count, panelSide); row++) {
      if (row < count) rotate(vectorOf(row), first + row, work.query);
      else std::fill(work.query, work.query + size, 0.0f);
      packRow(read, size, {work.queries, static_cast<int64_t>(rowsAtOnce) * size, parts, depth}, row);
    }
  }

  // 32 query rows of a block and the keys [from, from + seen), seen being 0 after the last piece. Pieces take turns in two buffers.
  struct Piece {
    int row, from, seen, buffer;

    int64_t scores() const { return static_cast<int64_t>(buffer) * panelSide * keysAtOnce; }
  };

  // Rows [first, first + count) of a head.
  struct Block {
    const Half *keys, *values;
    int first, count;
  };

  // Keys that a row of a block sees, counted from the first key.
  int lowest(const Block& block, int row) const { return call.firstSeen(block.first + row); }
  int highest(const Block& block, int row) const { return block.first + std::min(row, block.count - 1) + 1; }

  Piece pieceAt(const Block& block, int row, int from, int buffer) const {
    for (; from < block.first + block.count; from += keysAtOnce, row = 0) {
      for (; row < block.count; row += panelSide) {
        const int seen = std::min(keysAtOnce, static_cast<int>(roundUp(highest(block, row + panelSide - 1), tileDepth)) - from);
        if (seen > 0 && from + seen > lowest(block, row)) return {row, from, seen, buffer};
      }
    }
    return {};
  }

  template <class Between>
  void score(const Workspace& work, const Block& block, const Piece& piece, const Between& between) const {
    const Operand left = operand(work.queries + piece.row * size, depth * tileSize, static_cast<int64_t>(rowsAtOnce) * size);
    for (int column = 0; column < piece.seen; column += panelSide) {
      const Operand right = operand(block.keys + static_cast<int64_t>(piece.from + column) * size, tileSide * size, halves());
      multiplyPanels(units, left, right, depth, work.scores + piece.scores() + column, keysAtOnce, panelSide, false, between);
    }
  }

  template <class Between>
  void mix(const Workspace& work, const Block& block, const Piece& piece, const Between& between) const {
    const int deep = piece.seen / tileDepth;
    const Operand left = operand(work.weights + parts * piece.scores(), deep * tileSize, static_cast<int64_t>(panelSide) * keysAtOnce);
    for (int column = 0; column < size; column += panelSide) {
      const Half* value = block.values + static_cast<int64_t>(column) * positions + piece.from / tileDepth * tileSize;
      const Operand right = operand(value, static_cast<int64_t>(tileSide) * positions, halves());
      multiplyPanels(units, left, right, deep, work.mixed + piece.row * size + column, size, panelSide, true, between);
    }
  }

  void takeRow(const Workspace& work, const Block& block, const Piece& piece, int row) const {
    const auto inside = [&](int key) { return std::clamp(key - piece.from, 0, piece.seen); };
    const int at = piece.row + row;
    takeRow(work.states[at], work.scores + piece.scores() + row * keysAtOnce, piece.seen, inside(lowest(block, at)), inside(highest(block, at)),
            work.weights + parts * piece.scores(), row, piece.seen / tileDepth, work.mixed + at * size);
  }

  // The softmax of a piece is computed between the products of its neighbours.
  void rows(const Half* keys, const Half* values, int pair, int head, int first) const {
    const int sample = pair / call.keyValueHeads, count = std::min(rowsAtOnce, call.tokens - first);
    const Block block{keys, values, first, count};
    const Workspace work = workspace();
    packQueries(work, sample, head, first, count);
    std::fill(work.mixed, work.mixed + roundUp(count, panelSide) * size, 0.0f);
    std::fill(work.states, work.states + rowsAtOnce, Row{});
    Piece before{}, own = pieceAt(block, 0, lowest(block, 0) / tileDepth * tileDepth, 0);
    score(work, block, own, Nothing{});
    while (own.seen > 0) {
      int row = 0;
      const auto takeNext = [&] {
        if (row < panelSide) takeRow(work, block, own, row++);
      };
      const auto takeTwo = [&] { takeNext(), takeNext(); };
      // Softmax may rescale the sums of its rows, so these must be complete by now.
      const bool meets = before.row == own.row;
      if (before.seen > 0 && meets) mix(work, block, before, Nothing{});
      const Piece next = pieceAt(block, own.row + panelSide, own.from, 1 - own.buffer);
      if (next.seen > 0) score(work, block, next, takeTwo);
      if (before.seen > 0 && !meets) mix(work, block, before, takeTwo);
      while (row < panelSide) takeNext();
      before = own;
      own = next;
    }
    mix(work, block, before, Nothing{});
    const bool passes = passesCaches(call.output, call.headSize, static_cast<int64_t>(call.samples) * call.tokens * call.heads * call.headSize);
    for (int row = 0; row < count; row++) {
      const __m512 scale = _mm512_set1_ps(1 / _mm512_reduce_add_ps(work.states[row].total));
      float* to = call.output + ((static_cast<size_t>(sample) * call.tokens + first + row) * call.heads + head) * call.headSize;
      for (int i = 0; i < call.headSize; i += tileSide)
        storeOutput(to + i, _mm512_mul_ps(_mm512_load_ps(work.mixed + row * size + i), scale), call.headSize - i, passes);
    }
  }

  void run() const {
    const int pairs = call.samples * call.keyValueHeads, perGroup = call.heads / call.keyValueHeads, pieces = positions / tileDepth;
    const int64_t own = parts * halves();
    Half* keys = halfScratch<0>(2 * pairs * own);
    Half* values = keys + pairs * own;
    Pool::shared().run(pairs * pieces, [&](int task) {
      const int pair = task / pieces;
      packKeys(pair, task % pieces * tileDepth, keys + pair * own, values + pair * own);
    });
    const int blocks = (call.tokens + rowsAtOnce - 1) / rowsAtOnce;
    Pool::shared().run(blocks * pairs * perGroup, [&](int task) {
      // The last rows see the most keys. Starting with them keeps threads from waiting at the end.
      const int block = blocks - 1 - task / (pairs * perGroup), rest = task % (pairs * perGroup), pair = rest / perGroup;
      TileRegisters registers(units);
      rows(keys + pair * own, values + pair * own, pair, pair % call.keyValueHeads * perGroup + rest % perGroup, block * rowsAtOnce);
    });
  }
};

}  // namespace

#endif
