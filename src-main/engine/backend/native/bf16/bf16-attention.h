// Attention with products of 16-bit operands, and its gradients.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../attention.h"
#include "bf16-exponent.h"
#include "bf16-tile-products.h"
#include "bf16-weights.h"

#if ESPALIER_BF16

namespace {

// Keys and values of one call as tiles of right operands: keys [S / 16][d / 32], values [d / 16][S / 32], with d and S rounded up. If
// operands are split, the rounding remainder follows each.
template <bool Split>
struct Bf16Attention {
  static constexpr int parts = Split ? 2 : 1, keysAtOnce = 128, rowsAtOnce = 128;
  // The reference of exponentials moves only when a score exceeds it by more than this.
  static constexpr float slack = 20;
  // The truth table of `a | b | c`.
  static constexpr int anyOfThree = 0xfe;

  const Attention& call;
  Units units;
  int size, depth, positions;

  Bf16Attention(const Attention& call, Units units)
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

  void packKeys(int pair, int first, Bf16* keys, Bf16* values) const {
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

  Operand operand(const Bf16* tiles, int64_t second, int64_t low) const {
    return {{tiles, tiles + second}, Split ? Panel{tiles + low, tiles + low + second} : Panel{}};
  }

  // Turns scores [0, seen) of a row, of which [low, high) count, into exponentials in row `row` of a left operand. `mixed` holds the result
  // for earlier keys, and is rescaled when the reference moves.
  void takeRow(Row& state, float* scores, int seen, int low, int high, Bf16* weights, int row, int deep, float* mixed) const {
    constexpr float hidden = -1e30f;
    Bf16* to = weights + row / tileSide * deep * tileSize + row % tileSide * tileDepth;
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
  void takeScores(Row& state, const float* scores, Bf16* to, float* mixed) const {
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
      _mm512_store_si512(to + i * tileSize, Split ? takeBf16(a, b) : roundToBf16(a, b));
      if (Split) _mm512_store_si512(to + panelSide * keysAtOnce + i * tileSize, roundToBf16(a, b));
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
    Bf16 *queries, *weights;
    Row* states;
  };

  Workspace workspace() const {
    constexpr size_t piece = static_cast<size_t>(panelSide) * keysAtOnce;
    float* floats = scratch<1>(2 * piece + static_cast<size_t>(rowsAtOnce + 1) * size);
    Bf16* halves = bf16Scratch<5>(parts * (static_cast<size_t>(rowsAtOnce) * size + 2 * piece));
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
    const Bf16 *keys, *values;
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
      const Bf16* value = block.values + static_cast<int64_t>(column) * positions + piece.from / tileDepth * tileSize;
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
  void rows(const Bf16* keys, const Bf16* values, int pair, int head, int first) const {
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
    Bf16* keys = bf16Scratch<0>(2 * pairs * own);
    Bf16* values = keys + pairs * own;
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

// Gradients of attention, with products of 16-bit operands.

// Like `AttentionBackward`, whose sums over groups it uses. Each task computes some heads of one group. Everything between the products is
// float32.
struct Bf16AttentionBackward {
  AttentionBackward plain;
  Units units;

  // Query rows at once: sums of key and value gradients are then added up over two tiles of them.
  static constexpr int rowsAtOnce = 2 * panelSide;

  const Attention& call() const { return plain.call; }
  int64_t size() const { return roundUp(call().headSize, panelSide); }
  int64_t positions() const { return roundUp(call().tokens, panelSide); }
  int64_t halves() const { return size() * positions(); }
  // Depth in tiles: of products over a head's entries, and of products over positions.
  int64_t across() const { return size() / tileDepth; }
  int64_t along() const { return positions() / tileDepth; }

  // The number of heads of a group that one task computes, so that it packs keys and values once. It is all of them, unless threads would
  // then have nothing to do.
  int headsAtOnce() const {
    const int perGroup = call().heads / call().keyValueHeads, all = call().samples * call().heads;
    int most = perGroup;
    while (most > 1 && (perGroup % most > 0 || all / most < 2 * Pool::shared().threads())) most--;
    return most;
  }

  // Operands of one head: queries and output gradients as left operands, keys and values as right ones. All but the values are also
  // transposed, for products over positions. For some query rows: weights, score gradients and their results.
  struct Workspace {
    Bf16 *query, *outer, *keyColumns, *valueColumns, *queryTransposed, *outerTransposed, *keyTransposed, *byScoresRows, *transposed;
    float *weights, *byScores, *slopes, *byQuery, *byKey, *byValue;
  };

  Workspace workspace() const {
    const size_t own = halves(), scores = static_cast<size_t>(rowsAtOnce) * positions(), matrix = static_cast<size_t>(positions()) * size();
    Bf16* half = bf16Scratch<5>(7 * own + scores + rowsAtOnce * panelSide);
    const auto takeBf16 = [&](size_t count) { return half += count, half - count; };
    float* single = scratch<1>(2 * matrix + 3 * scores + rowsAtOnce * size());
    const auto take = [&](size_t count) { return single += count, single - count; };
    return {takeBf16(own), takeBf16(own), takeBf16(own), takeBf16(own), takeBf16(own), takeBf16(own), takeBf16(own), takeBf16(scores),
            takeBf16(rowsAtOnce * panelSide), take(scores), take(scores), take(scores), take(rowsAtOnce * size()), take(matrix), take(matrix)};
  }

  // Packs one matrix of the head, [positions, size] padded with zeros, as rows, as columns and transposed. Null skips a form.
  template <class Read>
  void pack(const Read& read, Bf16* rows, Bf16* columns, Bf16* transposed) const {
    float* room = scratch<8>(panelSide * size());
    std::fill(room, room + panelSide * size(), 0.0f);
    for (int first = 0; first < positions(); first += panelSide) {
      const int count = std::min(panelSide, call().tokens - first);
      for (int row = 0; row < count; row++) read(first + row, room + row * size());
      std::fill(room + count * size(), room + panelSide * size(), 0.0f);
      for (int row = 0; rows && row < panelSide; row++)
        packRow([&](int64_t at, int) { return _mm512_load_ps(room + row * size() + at); }, size(), {rows, 0, 1, across()}, first + row);
      for (int row = 0; columns && row < panelSide; row += tileSide)
        packColumns(room + row * size(), size(), tileSide, columns + (first + row) * size(), across(), false);
      for (int64_t column = 0; transposed && column < size(); column += tileSide)
        packTransposedColumns(room + column, size(), tileDepth, tileSide, transposed + column * positions() + first / tileDepth * tileSize, false);
    }
  }

  void packGroup(const Workspace& work, int sample, int group) const {
    const Attention& of = call();
    const int key = of.heads + group, value = key + of.keyValueHeads;
    pack([&](int token, float* to) { of.rotate(of.vectorOf(sample, token, key), token, to, 1); }, nullptr, work.keyColumns, work.keyTransposed);
    pack([&](int token, float* to) { copyHead(of.vectorOf(sample, token, value), to); }, nullptr, work.valueColumns, nullptr);
  }

  void packHead(const Workspace& work, int sample, int head) const {
    const Attention& of = call();
    const float* outer = plain.gradient + (static_cast<size_t>(sample) * of.tokens * of.heads + head) * of.headSize;
    pack([&](int token, float* to) { of.rotate(of.vectorOf(sample, token, head), token, to, 1); }, work.query, nullptr, work.queryTransposed);
    pack([&](int token, float* to) { copyHead(outer + static_cast<size_t>(token) * of.heads * of.headSize, to); }, work.outer, nullptr, work.outerTransposed);
  }

  void copyHead(const float* from, float* to) const { std::copy(from, from + call().headSize, to); }

  static Operand operand(const Bf16* tiles, int64_t second) { return {{tiles, tiles + second}}; }
  // Panels of operands, starting at a row or column. Transposed panels also start at a position.
  Operand sides(const Bf16* tiles, int64_t first) const { return operand(tiles + first * size(), across() * tileSize); }
  Operand over(const Bf16* transposed, int64_t column, int64_t from) const {
    return operand(transposed + column * positions() + from / tileDepth * tileSize, along() * tileSize);
  }

  // to [32 keys, size] += x' times query rows of a transposed matrix, where x is [query rows, 32 columns] and `deep` tiles of rows deep.
  void addTransposed(const Workspace& work, const float* x, int deep, const Bf16* matrix, int first, float* to) const {
    for (int half = 0; half < 2; half++)
      for (int k = 0; k < deep; k++)
        packTransposedRows(x + k * tileDepth * positions() + half * tileSide, positions(), tileDepth, tileSide, work.transposed + (half * deep + k) * tileSize);
    for (int64_t column = 0; column < size(); column += panelSide)
      multiplyPanels(units, operand(work.transposed, deep * tileSize), over(matrix, column, first), deep, to + column, size(), panelSide, true);
  }

  void rowsOf(const Workspace& work, int sample, int head, int first) const {
    const Attention& of = call();
    const int from = of.firstSeen(first) / panelSide * panelSide, stride = static_cast<int>(positions());
    const int rows = std::min(rowsAtOnce, stride - first), seen = first + rows - from;
    for (int row = 0; row < rows; row += panelSide) {
      const Operand query = sides(work.query, first + row), outer = sides(work.outer, first + row);
      for (int key = 0; key < seen; key += panelSide) {
        const int64_t at = row * stride + key;
        multiplyPanels(units, query, sides(work.keyColumns, from + key), static_cast<int>(across()), work.weights + at, stride, panelSide, false);
        multiplyPanels(units, outer, sides(work.valueColumns, from + key), static_cast<int>(across()), work.byScores + at, stride, panelSide, false);
      }
    }
    for (int row = 0; row < rows; row += rowsTogether) {
      const int64_t at = row * stride;
      plain.takeRows(work.weights + at, work.byScores + at, work.slopes + at, stride, rowsTogether, seen,
                     [&](int i) { return first + row + i < of.tokens ? plain.seenFrom(first + row + i, from) : Seen{0, 0}; });
    }
    const int64_t deep = seen / tileDepth;
    for (int row = 0; row < rows; row++)
      packRow([&](int64_t at, int) { return _mm512_loadu_ps(work.byScores + row * stride + at); }, seen, {work.byScoresRows, 0, 1, deep}, row);
    for (int row = 0; row < rows; row += panelSide)
      for (int64_t column = 0; column < size(); column += panelSide)
        multiplyPanels(units, operand(work.byScoresRows + row * seen, deep * tileSize), over(work.keyTransposed, column, from), static_cast<int>(deep),
                       work.byQuery + row * size() + column, size(), panelSide, false);
    for (int key = 0; key < seen; key += panelSide) {
      addTransposed(work, work.byScores + key, rows / tileDepth, work.queryTransposed, first, work.byKey + (from + key) * size());
      addTransposed(work, work.weights + key, rows / tileDepth, work.outerTransposed, first, work.byValue + (from + key) * size());
    }
    for (int row = 0; row < std::min(rows, of.tokens - first); row++)
      of.rotateBack(work.byQuery + row * size(), first + row, plain.gradientAt(sample, first + row, head));
  }

  void run() const {
    const Attention& of = call();
    const int atOnce = headsAtOnce(), tasks = of.samples * of.heads / atOnce, perGroup = of.heads / of.keyValueHeads;
    float* parts = plain.partsFor(tasks);
    Pool::shared().run(tasks, [&](int task) {
      TileRegisters registers(units);
      const Workspace work = workspace();
      const int sample = task * atOnce / of.heads, firstHead = task * atOnce % of.heads;
      packGroup(work, sample, firstHead / perGroup);
      std::fill(work.byKey, work.byKey + positions() * size(), 0.0f);
      std::fill(work.byValue, work.byValue + positions() * size(), 0.0f);
      for (int head = firstHead; head < firstHead + atOnce; head++) {
        packHead(work, sample, head);
        for (int first = 0; first < of.tokens; first += rowsAtOnce) rowsOf(work, sample, head, first);
      }
      float* own = parts + static_cast<size_t>(task) * 2 * plain.matrixFloats();
      for (int token = 0; token < of.tokens; token++) {
        copyHead(work.byKey + token * size(), own + static_cast<size_t>(token) * plain.padded());
        copyHead(work.byValue + token * size(), own + plain.matrixFloats() + static_cast<size_t>(token) * plain.padded());
      }
    });
    plain.joinGroups(parts, perGroup / atOnce);
  }
};

}  // namespace

#endif
