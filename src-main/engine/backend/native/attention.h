// Attention in float32: of whole samples, of rows over keys and values in cache slots, and its gradients. Each is one pass over tiles of
// keys times rows of queries, with a running softmax.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "few-rows.h"
#include "softmax.h"
#include "threads.h"
#include "tile-products.h"
#include "vectors.h"

namespace {

// One block's cached keys and values, [keyValueHeads, capacity, headSize] each. Each position of a sequence has its own slot, so sequences
// with a common beginning share those slots.
struct Slots {
  float *keys, *values;
  int capacity, size;

  float* key(int group, int slot) const { return keys + (static_cast<size_t>(group) * capacity + slot) * size; }
  float* value(int group, int slot) const { return values + (static_cast<size_t>(group) * capacity + slot) * size; }
};

struct Attention {
  int heads, keyValueHeads, headSize, tokens, samples, window, rotated;
  const float *projected, *cosine, *sine;
  float* output;
  // If nonzero, each score s becomes cap * tanh(s / cap).
  float cap = 0;
  // The number of positions before these tokens. If there are any, keys and values are read from the cache, in the slots of one sequence.
  int past = 0;
  const Slots* slots = nullptr;
  const int32_t* places = nullptr;

  int rowSize() const { return (heads + 2 * keyValueHeads) * headSize; }
  int seen() const { return past + tokens; }
  int keyTiles() const { return (seen() + tileColumns - 1) / tileColumns; }
  int paddedSize() const { return (headSize + lanes - 1) / lanes * lanes; }
  size_t keyFloats() const { return static_cast<size_t>(keyTiles()) * tileColumns * headSize; }
  size_t valueFloats() const { return static_cast<size_t>(keyTiles()) * tileColumns * paddedSize(); }

  const float* vectorOf(int sample, int token, int head) const {
    return projected + (static_cast<size_t>(sample) * tokens + token) * rowSize() + head * headSize;
  }

  // The first position that a query sees. The last one is its own.
  int firstSeen(int position) const { return window > 0 ? std::max(0, position - window + 1) : 0; }

  // Rotary embedding (arXiv 2104.09864, Eq. 34) of the first `rotated` dimensions, pairing the two halves. Writes to[i * stride].
  void rotate(const float* from, int token, float* to, int stride) const {
    const int half = rotated / 2;
    const float *c = cosine + static_cast<size_t>(token) * half, *s = sine + static_cast<size_t>(token) * half;
    for (int i = 0; i < half; i++) {
      to[i * stride] = from[i] * c[i] - from[i + half] * s[i];
      to[(i + half) * stride] = from[i + half] * c[i] + from[i] * s[i];
    }
    for (int i = rotated; i < headSize; i++) to[i * stride] = from[i];
  }

  // The inverse rotation, for gradients.
  void rotateBack(const float* from, int token, float* to) const {
    const int half = rotated / 2;
    const float *c = cosine + static_cast<size_t>(token) * half, *s = sine + static_cast<size_t>(token) * half;
    for (int i = 0; i < half; i++) {
      to[i] = from[i] * c[i] + from[i + half] * s[i];
      to[i + half] = from[i + half] * c[i] - from[i] * s[i];
    }
    for (int i = rotated; i < headSize; i++) to[i] = from[i];
  }
};

constexpr int queryRows = 48, keysAtOnce = 4 * tileColumns;
static_assert(queryRows % tileRows == 0, "query rows come in whole tiles");

// Packs one tile of a key-value pair, padded with zeros: keys as tiles [headSize, tileColumns], values as panels [S, <= tileColumns
// columns].
void packTile(const Attention& call, int sample, int group, int tile, float* keys, float* values) {
  const int padded = call.paddedSize(), rows = call.keyTiles() * tileColumns;
  float* key = keys + static_cast<size_t>(tile) * tileColumns * call.headSize;
  for (int column = 0; column < tileColumns; column++) {
    const int token = tile * tileColumns + column;
    const float* from = nullptr;
    if (token >= call.seen()) {
      for (int i = 0; i < call.headSize; i++) key[i * tileColumns + column] = 0;
    } else if (call.slots) {
      const float* cached = call.slots->key(group, call.places[token]);
      for (int i = 0; i < call.headSize; i++) key[i * tileColumns + column] = cached[i];
      from = call.slots->value(group, call.places[token]);
    } else {
      call.rotate(call.vectorOf(sample, token, call.heads + group), token, key + column, tileColumns);
      from = call.vectorOf(sample, token, call.heads + call.keyValueHeads + group);
    }
    for (int first = 0; first < padded; first += tileColumns) {
      const int width = std::min(tileColumns, padded - first);
      float* to = values + static_cast<size_t>(first) * rows + static_cast<size_t>(token) * width;
      for (int i = 0; i < width; i++) to[i] = from && first + i < call.headSize ? from[first + i] : 0;
    }
  }
}

void packKeysAndValues(const Attention& call, float* keys, float* values) {
  Pool::shared().run(call.samples * call.keyValueHeads * call.keyTiles(), [&](int task) {
    const int tile = task % call.keyTiles(), pair = task / call.keyTiles();
    packTile(call, pair / call.keyValueHeads, pair % call.keyValueHeads, tile, keys + pair * call.keyFloats(), values + pair * call.valueFloats());
  });
}

void attendRows(const Attention& call, const float* keys, const float* values, int pair, int head, int first) {
  const int padded = call.paddedSize(), sample = pair / call.keyValueHeads, size = call.headSize;
  const int count = std::min(queryRows, call.tokens - first), begin = call.past + first, last = begin + count;
  const int paddedKeys = call.keyTiles() * tileColumns;
  const int rows = (count + tileRows - 1) / tileRows * tileRows;
  float* query = scratch<1>(static_cast<size_t>(queryRows) * (size + keysAtOnce + padded));
  float* scores = query + queryRows * size;
  float* mixed = scores + queryRows * keysAtOnce;
  Softmax softmax[queryRows];
  std::fill(query + static_cast<size_t>(count) * size, query + static_cast<size_t>(rows) * size, 0.0f);
  for (int row = 0; row < count; row++) call.rotate(call.vectorOf(sample, first + row, head), first + row, query + row * size, 1);
  std::fill(mixed, mixed + static_cast<size_t>(rows) * padded, 0.0f);
  const int seenFrom = call.firstSeen(begin) / tileColumns * tileColumns;
  for (int from = seenFrom; from < last; from += keysAtOnce) {
    const int seen = std::min(keysAtOnce, (last - from + tileColumns - 1) / tileColumns * tileColumns);
    for (int column = 0; column < seen; column += tileColumns) {
      multiplyPanel(query, size, keys + static_cast<size_t>(from + column) * size, tileColumns, scores + column, keysAtOnce, rows, size,
                    tileColumns, false);
    }
    for (int row = 0; call.cap > 0 && row < rows; row++) capScores(scores + row * keysAtOnce, seen, call.cap);
    const auto seenBy = [&](int row) {
      const int position = begin + row - from, low = std::max(0, call.firstSeen(begin + row) - from);
      return Seen{std::min(low, seen), std::min(position + 1, seen)};
    };
    float factors[queryRows];
    takeScores(softmax, rows, scores, keysAtOnce, seen, seenBy, factors);
    for (int row = 0; row < rows; row++) {
      float* out = mixed + row * padded;
      for (int i = 0; factors[row] != 1 && i < padded; i += lanes) store(out + i, load(out + i) * factors[row]);
    }
    for (int column = 0; column < padded; column += tileColumns) {
      const int width = std::min(tileColumns, padded - column);
      const float* panel = values + static_cast<size_t>(column) * paddedKeys + static_cast<size_t>(from) * width;
      multiplyPanel(scores, keysAtOnce, panel, width, mixed + column, padded, rows, seen, width, true);
    }
  }
  for (int row = 0; row < count; row++) {
    const float scale = 1 / softmax[row].total;
    float* to = call.output + ((static_cast<size_t>(sample) * call.tokens + first + row) * call.heads + head) * size;
    for (int i = 0; i < size; i++) to[i] = mixed[row * padded + i] * scale;
  }
}

void attend(const Attention& call) {
  const int pairs = call.samples * call.keyValueHeads, perGroup = call.heads / call.keyValueHeads;
  float* keys = scratch<0>(pairs * (call.keyFloats() + call.valueFloats()));
  float* values = keys + pairs * call.keyFloats();
  packKeysAndValues(call, keys, values);
  const int blocks = (call.tokens + queryRows - 1) / queryRows;
  Pool::shared().run(blocks * pairs * perGroup, [&](int task) {
    // The last rows see the most keys. Starting with them keeps threads from waiting at the end.
    const int block = blocks - 1 - task / (pairs * perGroup), rest = task % (pairs * perGroup), pair = rest / perGroup;
    const int head = pair % call.keyValueHeads * perGroup + rest % perGroup;
    attendRows(call, keys + pair * call.keyFloats(), values + pair * call.valueFloats(), pair, head, block * queryRows);
  });
}

// Attention of rows over keys and values in cache slots.

// A row of a call: the slots of its sequence, and its position in the sequence.
struct PlacedRow {
  const int32_t* places;
  int position;

  int slot() const { return places[position]; }
};

// Stores the key and value of row `row` of the projections. `token` is the row's index in the rotary table.
void rememberRow(const Attention& call, const Slots& slots, const PlacedRow& placed, int row, int token) {
  for (int group = 0; group < call.keyValueHeads; group++) {
    call.rotate(call.vectorOf(0, row, call.heads + group), token, slots.key(group, placed.slot()), 1);
    const float* value = call.vectorOf(0, row, call.heads + call.keyValueHeads + group);
    std::copy(value, value + call.headSize, slots.value(group, placed.slot()));
  }
}

// Calls take(first, count) for each run of positions in [first, last) with consecutive slots.
template <class Take>
void forRuns(const int32_t* places, int first, int last, const Take& take) {
  for (int from = first; from < last;) {
    int to = from + 1;
    while (to < last && places[to] == places[to - 1] + 1) to++;
    take(from, to - from);
    from = to;
  }
}

// Adds the weighted sum of `count` rows of values [count, size].
void addValues(const float* weights, const float* values, int count, int size, float* to) {
  constexpr int together = 4 * lanes;
  int column = 0;
  for (; column + together <= size; column += together) {
    Vector sum[4];
    for (int v = 0; v < 4; v++) sum[v] = load(to + column + v * lanes);
    for (int row = 0; row < count; row++)
      for (int v = 0; v < 4; v++) sum[v] += weights[row] * load(values + static_cast<size_t>(row) * size + column + v * lanes);
    for (int v = 0; v < 4; v++) store(to + column + v * lanes, sum[v]);
  }
  for (; column + lanes <= size; column += lanes) {
    Vector sum = load(to + column);
    for (int row = 0; row < count; row++) sum += weights[row] * load(values + static_cast<size_t>(row) * size + column);
    store(to + column, sum);
  }
  for (; column < size; column++) {
    float sum = to[column];
    for (int row = 0; row < count; row++) sum += weights[row] * values[static_cast<size_t>(row) * size + column];
    to[column] = sum;
  }
}

// Computes one head of row `row` of the projections, which is at `token` in the rotary table, to [headSize].
void attendRow(const Attention& call, const Slots& slots, const PlacedRow& placed, int row, int token, int head, float* to) {
  const int size = call.headSize, group = head / (call.heads / call.keyValueHeads), last = placed.position + 1;
  const int first = call.firstSeen(last - 1), seen = last - first;
  const int padded = (seen + lanes - 1) / lanes * lanes;
  float* query = scratch<2>(static_cast<size_t>(size) + lanes + padded);
  float* scores = query + (size + lanes - 1) / lanes * lanes;
  call.rotate(call.vectorOf(0, row, head), token, query, 1);
  forRuns(placed.places, first, last, [&](int from, int count) {
    const float* keys = slots.key(group, placed.places[from]);
    float* own = scores + from - first;
    int at = 0;
    for (; at + 4 <= count; at += 4) dotTile<1, 4>(query, size, keys + static_cast<size_t>(at) * size, size, own + at, padded);
    for (; at < count; at++) dotTile<1, 1>(query, size, keys + static_cast<size_t>(at) * size, size, own + at, padded);
  });
  std::fill(scores + seen, scores + padded, 0.0f);
  if (call.cap > 0) capScores(scores, padded, call.cap);
  Softmax softmax;
  takeScores(softmax, scores, padded, {0, seen});
  std::fill(to, to + size, 0.0f);
  forRuns(placed.places, first, last, [&](int from, int count) {
    addValues(scores + from - first, slots.value(group, placed.places[from]), count, size, to);
  });
  for (int i = 0; i < size; i++) to[i] /= softmax.total;
}

// Consecutive rows of one sequence.
struct Span {
  int first, count;
};

std::vector<Span> spansOf(const std::vector<PlacedRow>& rows) {
  std::vector<Span> spans;
  for (int row = 0; row < static_cast<int>(rows.size()); row++) {
    const bool follows = row > 0 && rows[row].places == rows[row - 1].places && rows[row].position == rows[row - 1].position + 1;
    if (follows) spans.back().count++;
    else spans.push_back({row, 1});
  }
  return spans;
}

Attention attentionOf(const Attention& call, const Slots& slots, const std::vector<PlacedRow>& rows, Span span) {
  Attention own = call;
  own.tokens = span.count;
  own.projected += static_cast<size_t>(span.first) * call.rowSize();
  own.cosine += static_cast<size_t>(span.first) * call.rotated / 2;
  own.sine += static_cast<size_t>(span.first) * call.rotated / 2;
  own.output += static_cast<size_t>(span.first) * call.heads * call.headSize;
  own.past = rows[span.first].position;
  own.slots = &slots;
  own.places = rows[span.first].places;
  return own;
}

// Computes all heads that share one key-value pair, for one span.
void attendGroup(const Attention& call, int group) {
  const int perGroup = call.heads / call.keyValueHeads;
  float* keys = scratch<0>(call.keyFloats() + call.valueFloats());
  float* values = keys + call.keyFloats();
  for (int tile = 0; tile < call.keyTiles(); tile++) packTile(call, 0, group, tile, keys, values);
  for (int head = group * perGroup; head < (group + 1) * perGroup; head++)
    for (int row = 0; row < call.tokens; row += queryRows) attendRows(call, keys, values, group, head, row);
}

// Writes the rows' keys and values into their slots, then lets each row attend to all positions it sees.
void attendPlaced(const Attention& call, const Slots& slots, const std::vector<PlacedRow>& rows) {
  inPieces(call.tokens, 16, [&](int64_t first, int64_t last) {
    for (int row = static_cast<int>(first); row < last; row++) rememberRow(call, slots, rows[row], row, row);
  });
  const std::vector<Span> spans = spansOf(rows);
  const auto rowsOf = [&](Span span) {
    inPieces(static_cast<int64_t>(span.count) * call.heads, 1, [&](int64_t task, int64_t) {
      const int row = span.first + static_cast<int>(task) / call.heads, head = static_cast<int>(task) % call.heads;
      attendRow(call, slots, rows[row], row, row, head, call.output + (static_cast<size_t>(row) * call.heads + head) * call.headSize);
    });
  };
  if (spans.size() == 1) {
    if (spans[0].count >= tileRows) attend(attentionOf(call, slots, rows, spans[0]));
    else rowsOf(spans[0]);
    return;
  }
  const int groups = call.keyValueHeads, perGroup = call.heads / groups;
  Pool::shared().run(static_cast<int>(spans.size()) * groups, [&](int task) {
    const Span span = spans[task / groups];
    const int group = task % groups;
    if (span.count >= tileRows) return attendGroup(attentionOf(call, slots, rows, span), group);
    for (int row = span.first; row < span.first + span.count; row++)
      for (int head = group * perGroup; head < (group + 1) * perGroup; head++)
        attendRow(call, slots, rows[row], row, row, head, call.output + (static_cast<size_t>(row) * call.heads + head) * call.headSize);
  });
}

// Gradients of attention. Probabilities are recomputed, one block of query rows at a time.

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
