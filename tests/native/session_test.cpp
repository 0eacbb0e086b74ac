// PagePool and Session under random operations, against a model of a few lines.
#include "session.h"

#include <algorithm>
#include <memory>
#include <set>
#include <vector>

#include "check.h"

namespace {

using namespace gptoss;

int pages_for(int tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

struct Layers {
  bool full, sliding;
  int window;

  Config config() const {
    Config c;
    if (full) c.layer_types.push_back(LayerType::full_attention);
    if (sliding) c.layer_types.push_back(LayerType::sliding_attention);
    c.num_hidden_layers = static_cast<int>(c.layer_types.size());
    c.sliding_window = window;
    return c;
  }
};

std::vector<int32_t> numbers(int first, int count) {
  std::vector<int32_t> all(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) all[i] = first + i;
  return all;
}

// What a session ought to hold.
struct Model {
  Layers layers;
  int length = 0;
  int first_window_page = 0;
  std::vector<int32_t> tokens = {};

  void commit(const std::vector<int32_t>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
    length += static_cast<int>(more.size());
    first_window_page =
        std::max(first_window_page, std::max(0, length - layers.window - kRollbackReserve) / kPageTokens);
  }
  int truncate(int to) {
    if (to >= length) return length;
    const int oldest_needed = std::max(0, to - layers.window + 1);
    length = layers.sliding && oldest_needed < first_window_page * kPageTokens ? 0 : std::max(to, 0);
    if (length == 0) first_window_page = 0;
    tokens.resize(static_cast<size_t>(length));
    return length;
  }
};

// The tables hold the model's pages, all different, and `reserved` tokens more.
void check_tables(const Session& session, const Model& model, int reserved, std::set<int>& held) {
  const int pages = pages_for(model.length + reserved);
  const PageTables& tables = session.tables();
  CHECK(session.length() == model.length, "length %d, wanted %d", session.length(), model.length);
  CHECK(session.tokens().all() == model.tokens, "other tokens than %d that were committed", model.length);
  CHECK(session.copies().empty(), "%zu pages to copy, though nobody else holds any", session.copies().size());
  CHECK(static_cast<int>(tables.full.size()) == (model.layers.full ? pages : 0), "%zu pages of %d",
        tables.full.size(), pages);
  CHECK(static_cast<int>(tables.window.size()) == (model.layers.sliding ? pages : 0), "%zu pages of %d",
        tables.window.size(), pages);
  for (int page : tables.full) CHECK(page >= 0 && held.insert(page).second, "page %d twice, or freed", page);
  for (size_t i = 0; i < tables.window.size(); ++i) {
    const int page = tables.window[i];
    if (static_cast<int>(i) < model.first_window_page)
      CHECK(page == -1, "page %zu behind the window is held (length %d, window %d)", i, model.length,
            model.layers.window);
    else
      CHECK(page >= 0 && held.insert(page).second, "window page %zu: %d twice, or freed", i, page);
  }
}

// Several sessions of one pool, each operation followed by a full check; returns how often pages were lacking,
// which in a pool that is not `scarce` must be never.
int random_operations(const Layers& layers, bool scarce, uint64_t seed) {
  test::Random random(seed);
  const Config config = layers.config();
  const int max_context = 700, max_tokens = 130, sessions = 3;
  const int enough =
      static_cast<int>(sessions * (full_pages(config, max_context) + window_pages(config, max_context, max_tokens)));
  auto pool = std::make_shared<PagePool>(scarce ? enough / 3 : enough);
  std::vector<std::unique_ptr<Session>> live(sessions);
  std::vector<Model> models(sessions, Model{layers});
  for (auto& session : live) session = std::make_unique<Session>(pool, config);
  int refused = 0;

  for (int operation = 0; operation < 1500; ++operation) {
    const int i = random.below(sessions);
    Session& session = *live[i];
    Model& model = models[i];
    const auto check_all = [&](int reserved) {
      std::set<int> held;
      for (int j = 0; j < sessions; ++j) check_tables(*live[j], models[j], j == i ? reserved : 0, held);
      CHECK(pool->free_pages() == pool->pages() - static_cast<int>(held.size()),
            "%d free of %d with %zu held", pool->free_pages(), pool->pages(), held.size());
    };
    const int kind = random.below(40);
    if (kind < 32) {
      const int room = max_context - model.length;
      const int tokens = std::min(room, random.below(2) ? 1 + random.below(4) : 1 + random.below(max_tokens));
      if (tokens == 0) continue;
      const std::vector<int32_t> more = numbers(1000 * operation, tokens);
      const PageTables before = session.tables();
      const int free_before = pool->free_pages();
      const bool fits = tokens <= session.room(free_before);
      try {
        session.reserve(more);
        CHECK(fits, "%d tokens fit, room() said otherwise", tokens);
      } catch (const OutOfPages&) {
        ++refused;
        CHECK(!fits, "%d tokens do not fit, room() said otherwise", tokens);
        CHECK(scarce, "the planned pages did not suffice at length %d and %d tokens", model.length, tokens);
        CHECK(session.tables().full == before.full && session.tables().window == before.window &&
                  pool->free_pages() == free_before,
              "a reserve() that failed left a trace");
        check_all(0);
        continue;
      }
      check_all(tokens);
      if (random.below(4) == 0) {
        session.rollback();
        CHECK(session.tables().full == before.full && session.tables().window == before.window &&
                  pool->free_pages() == free_before,
              "rollback() left a trace");
      } else {
        session.commit();
        model.commit(more);
      }
    } else if (kind < 39) {
      const int to = random.below(3) ? model.length - random.below(kRollbackReserve + 2)
                                     : random.below(model.length + 2) - 1;
      const int before = model.length, got = session.truncate(to), want = model.truncate(to);
      CHECK(got == want, "truncate(%d) of %d: %d, wanted %d", to, before, got, want);
      // Whatever was kept, the next token finds all keys of its window.
      for (int key = std::max(0, got - layers.window + 1); layers.sliding && key < got; ++key)
        CHECK(session.tables().window[key / kPageTokens] >= 0, "truncate(%d): key %d of token %d is gone", to,
              key, got);
    } else {
      live[i] = std::make_unique<Session>(pool, config);  // the old one gives its pages back
      model = Model{layers};
    }
    check_all(0);
  }
  live.clear();
  CHECK(pool->free_pages() == pool->pages(), "%d of %d pages leaked", pool->pages() - pool->free_pages(),
        pool->pages());
  return refused;
}

// The reserve is what makes taking back a few draft tokens always possible.
void a_short_rollback_always_works() {
  for (int window : {1, 16, 128}) {
    const Layers layers{true, true, window};
    const auto pool = std::make_shared<PagePool>(64);
    Session session(pool, layers.config());
    for (int length = 0; length < 600; ++length) {
      session.reserve(numbers(length, 1));
      session.commit();
      const int back = std::min(kRollbackReserve, session.length());
      const int target = session.length() - back;
      CHECK(session.truncate(target) == target, "window %d: %d tokens back from %d", window, back,
            length + 1);
      if (back == 0) continue;
      session.reserve(numbers(0, back));
      session.commit();
    }
  }
}

void sliding_layers_cost_their_window_only() {
  const Layers layers{false, true, 128};
  const auto pool =
      std::make_shared<PagePool>(static_cast<int>(window_pages(layers.config(), 1 << 17, 64)));
  CHECK(pool->pages() <= (128 + kRollbackReserve + 64) / kPageTokens + 2, "%d pages", pool->pages());
  Session session(pool, layers.config());
  for (int length = 0; length < 5000; length += 50) {
    session.reserve(numbers(length, 50));
    session.commit();
  }
  CHECK(session.length() == 5000, "%d", session.length());
}

void shared_pages_are_freed_by_the_last_holder() {
  PagePool pool(2);
  const int page = pool.take();
  pool.retain(page);
  pool.release(page);
  CHECK(pool.free_pages() == 1, "%d", pool.free_pages());
  pool.release(page);
  CHECK(pool.free_pages() == 2, "%d", pool.free_pages());
  pool.take();
  pool.take();
  bool refused = false;
  try {
    pool.take();
  } catch (const OutOfPages&) {
    refused = true;
  }
  CHECK(refused, "an empty pool gave a page");
}

}  // namespace

int main() {
  uint64_t seed = 0;
  for (const Layers& layers : {Layers{true, true, 128}, Layers{true, true, 1}, Layers{true, true, 16},
                               Layers{true, true, 4096}, Layers{false, true, 100}, Layers{true, false, 128}})
    for (int repeat = 0; repeat < 3; ++repeat) {
      random_operations(layers, false, ++seed);
      CHECK(random_operations(layers, true, ++seed) > 0,
            "a third of the pages was enough: nothing was tested");
    }
  a_short_rollback_always_works();
  sliding_layers_cost_their_window_only();
  shared_pages_are_freed_by_the_last_holder();
  return test::finish("session_test");
}
