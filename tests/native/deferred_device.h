// A device that runs ahead as far as the contract lets it: it does nothing before somebody waits.
#pragma once

#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "growth_devices.h"

namespace test {

// What it is told is kept, as late as it may be: writes, copies of pages and the stages of steps run, in the order of the
// calls, on another device when a ticket is waited for, and only up to that. `log` says who submitted and who waited.
class DeferredDevice : private Owned, public RecordingBackend {
 public:
  explicit DeferredDevice(std::unique_ptr<Backend> device) : Owned{std::move(device)}, RecordingBackend(*owned, {}) {}

  std::vector<std::string> log;
  std::function<void(const std::string& call)> before;  // of submit, wait and each piece of work; may throw

  bool runs_ahead() const override { return true; }
  uint64_t submitted() const { return submitted_; }
  uint64_t ahead() const { return ahead_; }  // of those, before the one before was waited for

  void write(State& s, Field f, const void* data, size_t bytes) override {
    const auto* first = static_cast<const uint8_t*>(data);
    later([this, &s, f, kept = std::vector<uint8_t>(first, first + bytes)]() mutable {
      if (f == Field::token) look_up(kept);
      owned->write(s, f, kept.data(), kept.size());
    });
  }
  void read(State& s, Field f, void* data, size_t bytes) override {
    if (bytes == 0) return;
    const auto& results = drawn_[waited_ % 2];
    if (const auto result = results.find(f); result != results.end() && result->second.size() >= bytes) {
      std::memcpy(data, result->second.data(), bytes);
      return;
    }
    run_until(submitted_);
    owned->read(s, f, data, bytes);
  }
  void copy_page(State& s, int from, int to) override {
    later([this, &s, from, to] { owned->copy_page(s, from, to); });
  }
  Ticket submit(State& s, const Batch& b, const std::function<void()>& enqueue, const InterruptPoll&) override {
    tell("submit");
    if (submitted_ - done_ > 1) throw std::logic_error("a third step under way");
    stages_.clear();
    enqueue();
    later([this, &s, b, stages = stages_] {
      owned->wait(s, owned->submit(s, b, [&] { for (const auto& stage : stages) stage(); }, nullptr), nullptr);
      const auto keep = [&](Field f, size_t bytes) {
        auto& values = drawn_[(done_ + 1) % 2][f];
        values.resize(bytes);
        owned->read(s, f, values.data(), bytes);
      };
      keep(Field::next_token, b.samples * sizeof(int32_t));
      keep(Field::logprob, b.samples * sizeof(float));
      keep(Field::top_token, b.samples * kMaxLogprobs * sizeof(int32_t));
      keep(Field::top_logprob, b.samples * kMaxLogprobs * sizeof(float));
      ++done_;
    });
    if (waited_ < submitted_) ++ahead_;
    log.push_back("submit " + std::to_string(++submitted_));
    return submitted_;
  }
  void wait(State&, Ticket t, const InterruptPoll& poll) override {
    if (t > submitted_ || t + 1 < submitted_) throw std::logic_error("a ticket of no step that is under way");
    log.push_back("wait " + std::to_string(t));
    tell("wait");
    if (poll && poll()) {
      run_until(submitted_);
      throw Interrupted();
    }
    run_until(t);
    waited_ = t;
  }

  void embed(State& s, const Ends& e, const Batch& b) override { put([=, this, &s, &e] { owned->embed(s, e, b); }); }
  void attn_qkv(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->attn_qkv(s, l, b); }); }
  void attn(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->attn(s, l, b); }); }
  void attn_out(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->attn_out(s, l, b); }); }
  void moe_route(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->moe_route(s, l, b); }); }
  void moe_up(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->moe_up(s, l, b); }); }
  void moe_down(State& s, const Layer& l, const Batch& b) override { put([=, this, &s, &l] { owned->moe_down(s, l, b); }); }
  void unembed(State& s, const Ends& e, const Batch& b) override { put([=, this, &s, &e] { owned->unembed(s, e, b); }); }
  void sample(State& s, const Ends& e, const Batch& b) override { put([=, this, &s, &e] { owned->sample(s, e, b); }); }

 private:
  using Piece = std::function<void()>;
  void put(Piece stage) { stages_.push_back(std::move(stage)); }
  void later(Piece piece) { queue_.push_back({submitted_ + 1, std::move(piece)}); }
  void tell(const char* call) {
    if (before) before(call);
  }
  // What was put down before step `ticket` + 1 was begun; what is written in advance for that one stays.
  void run_until(Ticket ticket) {
    while (!queue_.empty() && queue_.front().first <= ticket) {
      const Piece piece = std::move(queue_.front().second);
      queue_.pop_front();
      piece();
    }
  }
  void look_up(std::vector<uint8_t>& tokens) const {
    const auto& before = drawn_[done_ % 2];
    for (size_t at = 0; at < tokens.size(); at += sizeof(int32_t)) {
      int32_t token;
      std::memcpy(&token, &tokens[at], sizeof token);
      if (token >= 0) continue;
      std::memcpy(&token, &before.at(Field::next_token).at((-1 - token) * sizeof token), sizeof token);
      if (token < 0) token = 0;  // that sequence has failed
      std::memcpy(&tokens[at], &token, sizeof token);
    }
  }

  std::deque<std::pair<Ticket, Piece>> queue_;  // with the ticket of the step that they belong to
  std::vector<Piece> stages_;
  std::array<std::map<Field, std::vector<uint8_t>>, 2> drawn_;  // of the steps that were done last
  Ticket submitted_ = 0, done_ = 0, waited_ = 0;
  uint64_t ahead_ = 0;
};

}  // namespace test
