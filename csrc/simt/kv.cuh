// Where a position's key and value are: pages of 64 slots, found through the sequence's table.
#pragma once

#include "../args.h"
#include "port.cuh"

namespace gptoss::simt {

template <class Kv>
struct PageHead {
  Kv* keys;    // (head_dim, 64): lanes that take a slot each read side by side
  Kv* values;  // (64, head_dim): lanes that take a dimension each do
};

template <class Kv>
GPTOSS_DEVICE PageHead<Kv> page_head(const KvArgs& kv, int sequence, int page, int head, int head_dim) {
  const size_t id = static_cast<size_t>(kv.pages[static_cast<size_t>(sequence) * kv.table_pages + page]);
  Kv* keys = reinterpret_cast<Kv*>(kv.layer + id * kv.page_bytes + head * kv.head_bytes);
  return {keys, keys + static_cast<size_t>(head_dim) * kPageSlots};
}

}  // namespace gptoss::simt
