// Tokens of a sequence and of the places in it: copies share what they have in common.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace gptoss {

// Thousands of checkpoints of one long document hold its tokens once.
class SharedTokens {
 public:
  int length() const { return static_cast<int>(blocks_.size()) * kBlock + static_cast<int>(tail_.size()); }

  void append(std::span<const int32_t> tokens) {
    for (int32_t token : tokens) {
      tail_.push_back(token);
      if (tail_.size() < kBlock) continue;
      auto block = std::make_shared<Block>();
      std::copy(tail_.begin(), tail_.end(), block->begin());
      blocks_.push_back(std::move(block));
      tail_.clear();
    }
  }
  // Forgets those from `length` on, which is at most length().
  void cut(int length) {
    const size_t whole = static_cast<size_t>(length / kBlock);
    if (whole < blocks_.size()) {
      tail_.assign(blocks_[whole]->begin(), blocks_[whole]->end());
      blocks_.resize(whole);
    }
    tail_.resize(static_cast<size_t>(length % kBlock));
  }
  // The first `length` of them.
  SharedTokens first(int length) const {
    SharedTokens copy = *this;
    copy.cut(length);
    return copy;
  }
  bool is_prefix_of(std::span<const int32_t> others) const {
    if (others.size() < static_cast<size_t>(length())) return false;
    auto other = others.begin();
    for (const auto& block : blocks_) {
      if (!std::equal(block->begin(), block->end(), other)) return false;
      other += kBlock;
    }
    return std::equal(tail_.begin(), tail_.end(), other);
  }
  std::vector<int32_t> all() const {
    std::vector<int32_t> tokens;
    tokens.reserve(static_cast<size_t>(length()));
    for (const auto& block : blocks_) tokens.insert(tokens.end(), block->begin(), block->end());
    tokens.insert(tokens.end(), tail_.begin(), tail_.end());
    return tokens;
  }

 private:
  static constexpr int kBlock = 64;
  using Block = std::array<int32_t, kBlock>;
  std::vector<std::shared_ptr<const Block>> blocks_;
  std::vector<int32_t> tail_;  // fewer than a block
};

}  // namespace gptoss
