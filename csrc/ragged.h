// How the sequences of an AttentionOp lie in its operands, and in the pages that it fills.
#pragma once

#include <algorithm>
#include <vector>

#include "backend.h"
#include "ops.h"

namespace gptoss {

// Positions [first, first + count) of one sequence. `query` and `key` are the rows of q, and of k and v, that
// belong to the first of them.
struct Segment {
  int sequence = 0, first = 0, count = 0;
  size_t query = 0, key = 0;
};

// What attends: the last positions of each sequence, in one step.
inline std::vector<Segment> query_segments(const AttentionOp& op) {
  std::vector<Segment> segments;
  size_t query = 0, key = 0;
  for (int i = 0; i < op.sequences; ++i) {
    const int first = op.key_counts[i] - op.query_counts[i];
    segments.push_back({i, first, op.query_counts[i], query, key + first});
    query += op.query_counts[i];
    key += op.key_counts[i];
  }
  return segments;
}

// What is in the cache before, in pieces of at most `most` positions.
inline std::vector<Segment> cached_segments(const AttentionOp& op, int most) {
  std::vector<Segment> segments;
  for (const Segment& last : query_segments(op))
    for (int first = 0; first < last.first; first += most)
      segments.push_back({.sequence = last.sequence,
                          .first = first,
                          .count = std::min(most, last.first - first),
                          .query = 0,
                          .key = last.key - last.first + first});
  return segments;
}

// The longest of what one step appends.
inline int step_tokens(const AttentionOp& op, int most) {
  int tokens = op.tokens;
  for (const Segment& segment : cached_segments(op, most)) tokens = std::max(tokens, segment.count);
  return tokens;
}

inline int longest(const AttentionOp& op) {
  return *std::max_element(op.key_counts, op.key_counts + op.sequences);
}

inline int pages_of(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

inline int page_count(const AttentionOp& op) {
  int pages = 0;
  for (int i = 0; i < op.sequences; ++i) pages += pages_of(op.key_counts[i]);
  return pages;
}

// (sequences, table_pages). The pool is used from its end, so that a kernel which counts its pages itself
// reads other sequences' pages.
inline std::vector<int32_t> page_tables(const AttentionOp& op, int table_pages) {
  std::vector<int32_t> tables(static_cast<size_t>(op.sequences) * table_pages, 0);
  int page = page_count(op);
  for (int i = 0; i < op.sequences; ++i)
    for (int j = 0; j < pages_of(op.key_counts[i]); ++j)
      tables[static_cast<size_t>(i) * table_pages + j] = --page;
  return tables;
}

}  // namespace gptoss
