#include "stream.h"

#include <algorithm>
#include <list>
#include <set>
#include <utility>

#include "../core/fault.h"
#include "overlap.h"

namespace emulator {
namespace {

struct Device {
  std::list<Stream> streams = std::list<Stream>(1);  // the first is the null stream
  bool failed = false;
  double eagerness = 0.5;  // that something queued runs at the next call of the host
  Random order{0};
};

Device& device() {
  static Device the_device;
  return the_device;
}

bool ready(const Stream::Queued& queued) {
  return std::all_of(queued.after.begin(), queued.after.end(), [](const DonePointer& done) { return done->yes; });
}

bool programmatic(const Work& work) { return work.launch && work.launch->programmatic; }

void perform(const std::vector<Launch>& launches) {
  if (!device().failed && !run_launches(launches)) device().failed = true;
}

// The stream's first work, with those behind it that may overlap it.
void run_head(Stream& stream) {
  std::vector<DonePointer> done;
  std::vector<Launch> launches;
  if (stream.queue.front().work.launch) {
    do {
      launches.push_back(*stream.queue.front().work.launch);
      done.push_back(stream.queue.front().done);
      stream.queue.pop_front();
    } while (!stream.queue.empty() && programmatic(stream.queue.front().work) && ready(stream.queue.front()));
    perform(launches);
  } else {
    const Stream::Queued queued = std::move(stream.queue.front());
    stream.queue.pop_front();
    done.push_back(queued.done);
    if (queued.work.act && !device().failed) queued.work.act();
  }
  for (const DonePointer& one : done) one->yes = true;
}

// Runs one piece of work of any stream; false when there is none that could run.
bool run_something() {
  std::vector<Stream*> able;
  for (Stream& stream : device().streams)
    if (!stream.queue.empty() && ready(stream.queue.front())) able.push_back(&stream);
  if (able.empty()) return false;
  run_head(*able[device().order.below(static_cast<uint32_t>(able.size()))]);
  return true;
}

// The work that the null stream and the others wait for in each other.
std::vector<DonePointer> implied_order(const Stream& stream) {
  std::vector<DonePointer> after;
  const auto add = [&](const Stream& other) {
    if (&other != &stream && other.last && !other.last->yes) after.push_back(other.last);
  };
  if (&stream == &null_stream()) {
    for (const Stream& other : device().streams)
      if (other.blocking) add(other);
  } else if (stream.blocking) {
    add(null_stream());
  }
  return after;
}

void push(Stream& stream, Work work, std::vector<DonePointer> after) {
  stream.last = std::make_shared<Done>();
  stream.queue.push_back({std::move(work), std::move(after), stream.last});
}

// A graph's nodes in any order that its edges allow.
void run_graph(const Graph& graph) {
  std::set<size_t> waiting;
  for (size_t i = 0; i < graph.nodes.size(); ++i) waiting.insert(i);
  const auto is_ready = [&](size_t node) {
    const std::vector<size_t>& after = graph.nodes[node].after;
    return std::none_of(after.begin(), after.end(), [&](size_t other) { return waiting.count(other) != 0; });
  };
  while (!waiting.empty() && !device().failed) {
    std::vector<size_t> able;
    for (size_t node : waiting)
      if (is_ready(node)) able.push_back(node);
    size_t node = able[device().order.below(static_cast<uint32_t>(able.size()))];
    if (!graph.nodes[node].work.launch) {
      waiting.erase(node);
      if (graph.nodes[node].work.act) graph.nodes[node].work.act();
      continue;
    }
    std::vector<Launch> launches;
    for (bool more = true; more;) {
      launches.push_back(*graph.nodes[node].work.launch);
      waiting.erase(node);
      more = false;
      for (size_t next : waiting) {
        if (!programmatic(graph.nodes[next].work) || graph.nodes[next].after != std::vector<size_t>{node}) continue;
        node = next;
        more = true;
        break;
      }
    }
    perform(launches);
  }
}

}  // namespace

Stream& null_stream() { return device().streams.front(); }

Stream* create_stream(bool blocking) {
  Stream& stream = device().streams.emplace_back();
  stream.blocking = blocking;
  return &stream;
}

void destroy_stream(Stream* stream) {
  synchronize(*stream);
  device().streams.remove_if([&](const Stream& other) { return &other == stream; });
}

void enqueue(Stream& stream, Work work) {
  if (stream.capture) {
    Graph& graph = *stream.capture->graph;
    graph.nodes.push_back({std::move(work), stream.frontier});
    stream.frontier = {graph.nodes.size() - 1};
    return;
  }
  push(stream, std::move(work), implied_order(stream));
  while (device().order.chance(device().eagerness) && run_something()) continue;
}

void record(Event& event, Stream& stream) {
  event = {};
  if (stream.capture) {
    event.captured = &stream;
    event.nodes = stream.frontier;
    return;
  }
  push(stream, {}, implied_order(stream));
  event.done = stream.last;
}

void wait_event(Stream& stream, const Event& event) {
  if (event.captured != nullptr && event.captured->capture) {
    stream.capture = event.captured->capture;  // the other stream joins the capture
    for (size_t node : event.nodes)
      if (std::find(stream.frontier.begin(), stream.frontier.end(), node) == stream.frontier.end())
        stream.frontier.push_back(node);
    return;
  }
  if (!event.done || event.done->yes) return;
  std::vector<DonePointer> after = implied_order(stream);
  after.push_back(event.done);
  push(stream, {}, std::move(after));
}

void synchronize(const DonePointer& done) {
  while (done && !done->yes && run_something()) continue;
}
void synchronize(Stream& stream) { synchronize(stream.last); }
void synchronize_all() {
  while (run_something()) continue;
}
bool is_done(const Event& event) {
  if (device().order.chance(0.5)) run_something();  // time passes
  return !event.done || event.done->yes;
}

void begin_capture(Stream& stream) {
  stream.capture = std::make_shared<Capture>();
  stream.capture->graph = std::make_shared<Graph>();
  stream.capture->origin = &stream;
  stream.frontier.clear();
}

std::shared_ptr<Graph> end_capture(Stream& stream) {
  const std::shared_ptr<Capture> capture = std::exchange(stream.capture, nullptr);
  if (!capture || capture->origin != &stream) return nullptr;
  std::set<size_t> joined(stream.frontier.begin(), stream.frontier.end());
  for (size_t i = capture->graph->nodes.size(); i-- > 0;)
    if (joined.count(i))
      joined.insert(capture->graph->nodes[i].after.begin(), capture->graph->nodes[i].after.end());
  bool complete = joined.size() == capture->graph->nodes.size();
  for (Stream& other : device().streams) {
    if (other.capture != capture) continue;
    other.capture = nullptr;
    other.frontier.clear();
  }
  stream.frontier.clear();
  return capture->valid && complete ? capture->graph : nullptr;
}

bool is_capturing(const Stream& stream) { return stream.capture != nullptr; }

bool spoil_captures() {
  bool any = false;
  for (Stream& stream : device().streams) {
    if (!stream.capture) continue;
    stream.capture->valid = false;
    any = true;
  }
  return any;
}

void replay(Stream& stream, std::shared_ptr<const Graph> graph) {
  enqueue(stream, {std::nullopt, [graph] { run_graph(*graph); }});
}

bool device_failed() { return device().failed; }

void reset_device() {
  for (Stream& stream : device().streams) {
    for (Stream::Queued& queued : stream.queue) queued.done->yes = true;
    stream.queue.clear();
    stream.capture = nullptr;
    stream.frontier.clear();
  }
  device().failed = false;
}

void seed(uint64_t seed) {
  machine.random = Random(seed);
  device().order = Random(~seed);
  constexpr double kEagerness[] = {0, 0.3, 0.9, 1};
  device().eagerness = kEagerness[device().order.below(4)];
}

}  // namespace emulator
