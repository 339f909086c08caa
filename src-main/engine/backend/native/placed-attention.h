// Attention of rows over keys and values in cache slots.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention.h"
#include "few-rows.h"

namespace {

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

}  // namespace
