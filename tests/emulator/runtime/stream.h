// Streams, events and graphs: what the host asked for, done later.
//
// Work waits in its stream's queue until somebody waits for it, or chance starts it earlier; queues that nothing
// orders take turns at random. A host that reads too early reads what was there before.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "../core/machine.h"

namespace emulator {

struct Done {  // shared by a piece of work and by all who wait for it
  bool yes = false;
};
using DonePointer = std::shared_ptr<Done>;

struct Work {
  std::optional<Launch> launch;  // a kernel, or
  std::function<void()> act;     // a copy, or the replay of a graph, or nothing
};

struct Graph {
  struct Node {
    Work work;
    std::vector<size_t> after;
  };
  std::vector<Node> nodes;
};

struct Stream;
struct Event {
  DonePointer done;  // of the work before the record; null: never recorded
  Stream* captured = nullptr;
  std::vector<size_t> nodes;  // of the graph being captured
};

// Capturing: a stream's work is written down in a graph instead of queued.
struct Capture {
  std::shared_ptr<Graph> graph;
  Stream* origin = nullptr;
  bool valid = true;
};

struct Stream {
  struct Queued {
    Work work;
    std::vector<DonePointer> after;
    DonePointer done;
  };
  std::deque<Queued> queue;
  DonePointer last;  // of the newest work
  bool blocking = true;  // waits for the null stream's work, which waits for it
  std::shared_ptr<Capture> capture;
  std::vector<size_t> frontier;  // while capturing: the nodes that the next one comes after
};

Stream& null_stream();
Stream* create_stream(bool blocking);
void destroy_stream(Stream* stream);  // after its work

void enqueue(Stream& stream, Work work);
void record(Event& event, Stream& stream);
void wait_event(Stream& stream, const Event& event);
// Runs whatever is needed until the work is done.
void synchronize(const DonePointer& done);
void synchronize(Stream& stream);
void synchronize_all();
bool is_done(const Event& event);

void begin_capture(Stream& stream);
// nullptr when the capture was invalid, or other streams that it forked to did not come back.
std::shared_ptr<Graph> end_capture(Stream& stream);
bool is_capturing(const Stream& stream);
// A call that may not be made while any stream captures: returns true, and spoils the capture.
bool spoil_captures();
void replay(Stream& stream, std::shared_ptr<const Graph> graph);

// After a kernel's fault the device refuses everything, as a real one does, until it is reset.
bool device_failed();
void reset_device();

// A new schedule: of threads, of asynchronous landings, of streams.
void seed(uint64_t seed);

}  // namespace emulator
