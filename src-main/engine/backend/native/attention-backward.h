// Gradients of attention. Probabilities are recomputed, one block of query rows at a time.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention.h"

namespace {

// Gradients with respect to the projections [B*T, (H + 2K) d], given those with respect to attention's output [B*T, H d]. Each task
// computes one head of one sample.
struct AttentionBackward {
  Attention call;
  const float* gradient;
  float* to;

  int padded() const { return call.paddedSize(); }
  // Rows of keys and queries, padded so that whole tiles fit after the last row.
  int rowsInAll() const { return static_cast<int>(roundUp(call.tokens, tileColumns)) + queryRows; }
  size_t matrixFloats() const { return static_cast<size_t>(rowsInAll()) * padded(); }

  // For one head, [rows, padded] each: rotated queries and keys, values, and output gradients. Keys and values are also transposed into
  // tiles [d, tileColumns]. For one block of query rows: weights, score gradients, and slopes of the cap.
  struct Workspace {
    float *query, *key, *value, *outer, *keyTiles, *valueTiles, *weights, *byScores, *slopes, *byQuery;
  };

  int scoreStride() const { return static_cast<int>(roundUp(call.tokens, tileColumns)) + tileColumns; }

  Workspace workspace() const {
    const size_t matrix = matrixFloats(), tiles = static_cast<size_t>(rowsInAll()) * call.headSize, scores = static_cast<size_t>(queryRows) * scoreStride();
    float* at = scratch<1>(4 * matrix + 2 * roundUp(tiles, lanes) + 3 * scores + queryRows * padded());
    const auto take = [&](size_t floats) {
      float* own = at;
      at += roundUp(floats, lanes);
      return own;
    };
    return {take(matrix), take(matrix), take(matrix), take(matrix), take(tiles), take(tiles), take(scores), take(scores), take(scores), take(queryRows * padded())};
  }

  void packHead(const Workspace& work, int sample, int head) const {
    const int group = head / (call.heads / call.keyValueHeads), size = call.headSize;
    for (float* matrix : {work.query, work.key, work.value, work.outer}) std::fill(matrix, matrix + matrixFloats(), 0.0f);
    for (int token = 0; token < call.tokens; token++) {
      const size_t at = static_cast<size_t>(token) * padded();
      call.rotate(call.vectorOf(sample, token, head), token, work.query + at, 1);
      call.rotate(call.vectorOf(sample, token, call.heads + group), token, work.key + at, 1);
      const float* value = call.vectorOf(sample, token, call.heads + call.keyValueHeads + group);
      std::copy(value, value + size, work.value + at);
      const float* outer = gradient + ((static_cast<size_t>(sample) * call.tokens + token) * call.heads + head) * size;
      std::copy(outer, outer + size, work.outer + at);
    }
    for (int token = 0; token < static_cast<int>(roundUp(call.tokens, tileColumns)); token++) {
      const size_t tile = static_cast<size_t>(token / tileColumns) * tileColumns * size + token % tileColumns;
      for (int i = 0; i < size; i++) {
        work.keyTiles[tile + static_cast<size_t>(i) * tileColumns] = work.key[static_cast<size_t>(token) * padded() + i];
        work.valueTiles[tile + static_cast<size_t>(i) * tileColumns] = work.value[static_cast<size_t>(token) * padded() + i];
      }
    }
  }

  // The keys that a query sees, counted from the first key of its block.
  Seen seenFrom(int position, int from) const { return {std::max(0, call.firstSeen(position) - from), position - from + 1}; }

  // Turns rows of scores into weights, and of weight gradients into score gradients: columns [0, size) of up to `rowsTogether` rows,
  // `stride` apart, of which `seen(row)` says which count. Each stage passes all rows, so that no row waits for the sums of the one before
  // it.
  template <class SeenBy>
  void takeRows(float* weights, float* byScores, float* slopes, int stride, int rows, int size, const SeenBy& seen) const {
    for (int row = 0; call.cap > 0 && row < rows; row++) {
      capScores(weights + row * stride, size, call.cap);
      for (int i = row * stride; i < row * stride + size; i += lanes) {
        const Vector share = load(weights + i) * (1 / call.cap);
        store(slopes + i, 1 - share * share);
      }
    }
    Softmax softmax[rowsTogether];
    float factors[rowsTogether], sides[rowsTogether][lanes], levels[rowsTogether] = {};
    takeScores(softmax, rows, weights, stride, size, seen, factors);
    for (int row = 0; row < rows; row++) {
      const Vector scale = all(softmax[row].total == 0 ? 0 : 1 / softmax[row].total);
      Vector sum = all(0);
      for (int i = row * stride; i < row * stride + size; i += lanes) {
        const Vector weight = load(weights + i) * scale;
        store(weights + i, weight);
        sum += weight * load(byScores + i);
      }
      store(sides[row], sum);
    }
    for (int lane = 0; lane < lanes; lane++)
      for (int row = 0; row < rows; row++) levels[row] += sides[row][lane];
    for (int row = 0; row < rows; row++) {
      const Vector level = all(levels[row]);
      for (int i = row * stride; i < row * stride + size; i += lanes) {
        const Vector own = load(weights + i) * (load(byScores + i) - level);
        store(byScores + i, call.cap > 0 ? own * load(slopes + i) : own);
      }
    }
  }

  // c [rows, padded] (+)= a b, one panel of columns at a time.
  template <bool Transposed>
  void multiplyWide(const float* a, int strideA, const float* b, float* c, int rows, int depth, bool adds) const {
    for (int column = 0; column < padded(); column += tileColumns)
      multiplyPanel<Transposed>(a, strideA, b + column, padded(), c + column, padded(), rows, depth, std::min(tileColumns, padded() - column), adds);
  }

  void rowsOf(const Workspace& work, int sample, int head, int first, float* byKey, float* byValue) const {
    const int count = std::min(queryRows, call.tokens - first), last = first + count, size = call.headSize, stride = scoreStride();
    const int rows = (count + tileRows - 1) / tileRows * tileRows;
    const int from = call.firstSeen(first) / tileColumns * tileColumns;
    const int seen = static_cast<int>(roundUp(last - from, tileColumns)), keyRows = static_cast<int>(roundUp(last - from, tileRows));
    const size_t at = static_cast<size_t>(first) * padded();
    for (int column = 0; column < seen; column += tileColumns) {
      const size_t tile = static_cast<size_t>(from + column) * size;
      multiplyPanel(work.query + at, padded(), work.keyTiles + tile, tileColumns, work.weights + column, stride, rows, size, tileColumns, false);
      multiplyPanel(work.outer + at, padded(), work.valueTiles + tile, tileColumns, work.byScores + column, stride, rows, size, tileColumns, false);
    }
    for (int row = 0; row < rows; row += rowsTogether) {
      const size_t own = static_cast<size_t>(row) * stride;
      takeRows(work.weights + own, work.byScores + own, work.slopes + own, stride, std::min(rowsTogether, rows - row), seen,
               [&](int i) { return row + i < count ? seenFrom(first + row + i, from) : Seen{0, 0}; });
    }
    // Whole tiles of keys may end after the tiles of scores.
    for (int row = 0; row < rows; row++)
      for (float* scores : {work.weights + row * stride, work.byScores + row * stride}) std::fill(scores + std::min(seen, keyRows), scores + keyRows, 0.0f);
    const size_t keys = static_cast<size_t>(from) * padded();
    multiplyWide<false>(work.byScores, stride, work.key + keys, work.byQuery, rows, last - from, false);
    multiplyWide<true>(work.byScores, stride, work.query + at, byKey + keys, keyRows, count, true);
    multiplyWide<true>(work.weights, stride, work.outer + at, byValue + keys, keyRows, count, true);
    for (int row = 0; row < count; row++) call.rotateBack(work.byQuery + static_cast<size_t>(row) * padded(), first + row, gradientAt(sample, first + row, head));
  }

  float* gradientAt(int sample, int token, int head) const {
    return to + (static_cast<size_t>(sample) * call.tokens + token) * call.rowSize() + head * call.headSize;
  }

  // Sums keys and values over the `count` parts of a group, always in the same order.
  void joinGroup(const float* parts, int count, int sample, int group) const {
    float* sums = scratch<2>(2 * padded());
    for (int token = 0; token < call.tokens; token++) {
      std::fill(sums, sums + 2 * padded(), 0.0f);
      for (int part = 0; part < count; part++) {
        const size_t index = (static_cast<size_t>(sample) * call.keyValueHeads + group) * count + part;
        const float* own = parts + index * 2 * matrixFloats() + static_cast<size_t>(token) * padded();
        for (int i = 0; i < call.headSize; i++) {
          sums[i] += own[i];
          sums[padded() + i] += own[matrixFloats() + i];
        }
      }
      call.rotateBack(sums, token, gradientAt(sample, token, call.heads + group));
      std::copy(sums + padded(), sums + padded() + call.headSize, gradientAt(sample, token, call.heads + call.keyValueHeads + group));
    }
  }

  // Key and value gradients of some parts.
  float* partsFor(int count) const { return scratch<0>(static_cast<size_t>(count) * 2 * matrixFloats()); }

  void joinGroups(const float* parts, int perGroup) const {
    Pool::shared().run(call.samples * call.keyValueHeads, [&](int task) { joinGroup(parts, perGroup, task / call.keyValueHeads, task % call.keyValueHeads); });
  }

  void run() const {
    float* parts = partsFor(call.samples * call.heads);
    Pool::shared().run(call.samples * call.heads, [&](int task) {
      float* byKey = parts + static_cast<size_t>(task) * 2 * matrixFloats();
      std::fill(byKey, byKey + 2 * matrixFloats(), 0.0f);
      const Workspace work = workspace();
      packHead(work, task / call.heads, task % call.heads);
      for (int first = 0; first < call.tokens; first += queryRows) rowsOf(work, task / call.heads, task % call.heads, first, byKey, byKey + matrixFloats());
    });
    joinGroups(parts, call.heads / call.keyValueHeads);
  }
};

}  // namespace
