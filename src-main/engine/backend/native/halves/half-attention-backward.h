// Gradients of attention, with products of 16-bit operands.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../attention-backward.h"
#include "half-tile-products.h"
#include "half-weights.h"

#if ESPALIER_HALVES

namespace {

// Like `AttentionBackward`, whose sums over groups it uses. Each task computes some heads of one group. Everything between the products is
// float32.
struct HalfAttentionBackward {
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
    Half *query, *outer, *keyColumns, *valueColumns, *queryTransposed, *outerTransposed, *keyTransposed, *byScoresRows, *transposed;
    float *weights, *byScores, *slopes, *byQuery, *byKey, *byValue;
  };

  Workspace workspace() const {
    const size_t own = halves(), scores = static_cast<size_t>(rowsAtOnce) * positions(), matrix = static_cast<size_t>(positions()) * size();
    Half* half = halfScratch<5>(7 * own + scores + rowsAtOnce * panelSide);
    const auto takeHalves = [&](size_t count) { return half += count, half - count; };
    float* single = scratch<1>(2 * matrix + 3 * scores + rowsAtOnce * size());
    const auto take = [&](size_t count) { return single += count, single - count; };
    return {takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(scores),
            takeHalves(rowsAtOnce * panelSide), take(scores), take(scores), take(scores), take(rowsAtOnce * size()), take(matrix), take(matrix)};
  }

  // Packs one matrix of the head, [positions, size] padded with zeros, as rows, as columns and transposed. Null skips a form.
  template <class Read>
  void pack(const Read& read, Half* rows, Half* columns, Half* transposed) const {
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

  static Operand operand(const Half* tiles, int64_t second) { return {{tiles, tiles + second}}; }
  // Panels of operands, starting at a row or column. Transposed panels also start at a position.
  Operand sides(const Half* tiles, int64_t first) const { return operand(tiles + first * size(), across() * tileSize); }
  Operand over(const Half* transposed, int64_t column, int64_t from) const {
    return operand(transposed + column * positions() + from / tileDepth * tileSize, along() * tileSize);
  }

  // to [32 keys, size] += x' times query rows of a transposed matrix, where x is [query rows, 32 columns] and `deep` tiles of rows deep.
  void addTransposed(const Workspace& work, const float* x, int deep, const Half* matrix, int first, float* to) const {
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
