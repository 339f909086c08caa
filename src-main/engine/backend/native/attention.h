// Rotary embedding and causal attention in one pass: tiles of keys times rows of queries, with a running softmax.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

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

}  // namespace
