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

// As `AttentionBackward`, whose key and value buffers and group sums it uses. Everything between the products is float32.
struct HalfAttentionBackward {
  AttentionBackward plain;
  Units units;

  const Attention& call() const { return plain.call; }
  int64_t size() const { return roundUp(call().headSize, panelSide); }
  int64_t positions() const { return roundUp(call().tokens, panelSide); }
  int64_t halves() const { return size() * positions(); }
  // Depth in tiles: of products over a head's entries, and of products over positions.
  int64_t across() const { return size() / tileDepth; }
  int64_t along() const { return positions() / tileDepth; }

  // Operands of one head: queries and output gradients as left operands, keys and values as right ones. All but the values are also
  // transposed, for products over positions. For 32 query rows: weights, score gradients and their results.
  struct Workspace {
    Half *query, *outer, *keyColumns, *valueColumns, *queryTurned, *outerTurned, *keyTurned, *byScoresRows, *turned;
    float *rows, *weights, *byScores, *slopes, *byQuery, *byKey, *byValue;
  };

  Workspace workspace() const {
    const size_t own = halves(), scores = static_cast<size_t>(panelSide) * positions(), matrix = static_cast<size_t>(positions()) * size();
    Half* half = halfScratch<5>(7 * own + scores + 2 * tileSize);
    const auto takeHalves = [&](size_t count) { return half += count, half - count; };
    float* single = scratch<1>(3 * matrix + 3 * scores + panelSide * size());
    const auto take = [&](size_t count) { return single += count, single - count; };
    return {takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(own), takeHalves(scores),
            takeHalves(2 * tileSize), take(matrix), take(scores), take(scores), take(scores), take(panelSide * size()), take(matrix), take(matrix)};
  }

  // Packs one matrix of the head, [positions, size] padded with zeros, as rows, as columns and transposed. Null skips a form.
  template <class Read>
  void pack(float* room, const Read& read, Half* rows, Half* columns, Half* turned) const {
    std::fill(room, room + positions() * size(), 0.0f);
    for (int token = 0; token < call().tokens; token++) read(token, room + token * size());
    for (int64_t row = 0; rows && row < positions(); row++)
      packRow([&](int64_t at, int) { return _mm512_loadu_ps(room + row * size() + at); }, size(), {rows, 0, 1, across()}, row);
    for (int64_t row = 0; columns && row < positions(); row += tileSide)
      packColumns(room + row * size(), size(), tileSide, columns + row * size(), across(), false);
    for (int64_t column = 0; turned && column < size(); column += tileSide)
      for (int64_t k = 0; k < along(); k++)
        packTurnedColumns(room + k * tileDepth * size() + column, size(), tileDepth, tileSide, turned + column * positions() + k * tileSize, false);
  }

  void packHead(const Workspace& work, int sample, int head) const {
    const Attention& of = call();
    const int group = of.heads + head / (of.heads / of.keyValueHeads), value = group + of.keyValueHeads;
    pack(work.rows, [&](int token, float* to) { of.rotate(of.vectorOf(sample, token, head), token, to, 1); }, work.query, nullptr, work.queryTurned);
    pack(work.rows, [&](int token, float* to) { of.rotate(of.vectorOf(sample, token, group), token, to, 1); }, nullptr, work.keyColumns, work.keyTurned);
    const auto copy = [&](const float* from, float* to) { std::copy(from, from + of.headSize, to); };
    pack(work.rows, [&](int token, float* to) { copy(of.vectorOf(sample, token, value), to); }, nullptr, work.valueColumns, nullptr);
    const float* outer = plain.gradient + (static_cast<size_t>(sample) * of.tokens * of.heads + head) * of.headSize;
    pack(work.rows, [&](int token, float* to) { copy(outer + static_cast<size_t>(token) * of.heads * of.headSize, to); }, work.outer, nullptr, work.outerTurned);
  }

  static Operand operand(const Half* tiles, int64_t second) { return {{tiles, tiles + second}}; }
  // Panels of operands, starting at a row or column. Transposed panels also start at a position.
  Operand sides(const Half* tiles, int64_t first) const { return operand(tiles + first * size(), across() * tileSize); }
  Operand over(const Half* turned, int64_t column, int64_t from) const {
    return operand(turned + column * positions() + from / tileDepth * tileSize, along() * tileSize);
  }

  // to [32 keys, size] += x' times 32 rows of a transposed matrix, where x is [32 query rows, 32 columns].
  void addTurned(const Workspace& work, const float* x, const Half* matrix, int first, float* to) const {
    for (int half = 0; half < 2; half++) packTurnedRows(x + half * tileSide, positions(), panelSide, tileSide, work.turned + half * tileSize);
    for (int64_t column = 0; column < size(); column += panelSide)
      multiplyPanels(units, operand(work.turned, tileSize), over(matrix, column, first), 1, to + column, size(), panelSide, true);
  }

  void rowsOf(const Workspace& work, int sample, int head, int first) const {
    const Attention& of = call();
    const int count = std::min(panelSide, of.tokens - first), from = of.window > 0 ? std::max(0, first - of.window + 1) / panelSide * panelSide : 0;
    const int64_t seen = first + panelSide - from, stride = positions();
    for (int64_t key = 0; key < seen; key += panelSide) {
      multiplyPanels(units, sides(work.query, first), sides(work.keyColumns, from + key), static_cast<int>(across()), work.weights + key, stride, panelSide, false);
      multiplyPanels(units, sides(work.outer, first), sides(work.valueColumns, from + key), static_cast<int>(across()), work.byScores + key, stride, panelSide, false);
    }
    for (int row = 0; row < panelSide; row++) {
      float *weights = work.weights + row * stride, *byScores = work.byScores + row * stride;
      const int position = first + row - from, low = of.window > 0 ? std::max(0, position - of.window + 1) : 0;
      if (row < count) {
        plain.takeRow(weights, byScores, work.slopes + row * stride, static_cast<int>(seen), low, position + 1);
      } else {
        std::fill(weights, weights + seen, 0.0f);
        std::fill(byScores, byScores + seen, 0.0f);
      }
      packRow([&](int64_t at, int) { return _mm512_loadu_ps(byScores + at); }, seen, {work.byScoresRows, 0, 1, seen / tileDepth}, row);
    }
    for (int64_t column = 0; column < size(); column += panelSide)
      multiplyPanels(units, operand(work.byScoresRows, seen / tileDepth * tileSize), over(work.keyTurned, column, from), static_cast<int>(seen / tileDepth),
                     work.byQuery + column, size(), panelSide, false);
    for (int64_t key = 0; key < seen; key += panelSide) {
      addTurned(work, work.byScores + key, work.queryTurned, first, work.byKey + (from + key) * size());
      addTurned(work, work.weights + key, work.outerTurned, first, work.byValue + (from + key) * size());
    }
    for (int row = 0; row < count; row++) of.rotateBack(work.byQuery + row * size(), first + row, plain.gradientAt(sample, first + row, head));
  }

  void run() const {
    const Attention& of = call();
    float* parts = plain.parts();
    Pool::shared().run(of.samples * of.heads, [&](int task) {
      TileRegisters registers(units);
      const Workspace work = workspace();
      packHead(work, task / of.heads, task % of.heads);
      std::fill(work.byKey, work.byKey + positions() * size(), 0.0f);
      std::fill(work.byValue, work.byValue + positions() * size(), 0.0f);
      for (int first = 0; first < of.tokens; first += panelSide) rowsOf(work, task / of.heads, task % of.heads, first);
      float* own = parts + static_cast<size_t>(task) * 2 * plain.matrixFloats();
      for (int token = 0; token < of.tokens; token++) {
        std::copy(work.byKey + token * size(), work.byKey + token * size() + of.headSize, own + static_cast<size_t>(token) * plain.padded());
        std::copy(work.byValue + token * size(), work.byValue + token * size() + of.headSize, own + plain.matrixFloats() + static_cast<size_t>(token) * plain.padded());
      }
    });
    plain.joinGroups(parts);
  }
};

}  // namespace

#endif
