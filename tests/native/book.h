// Sequences that share prefixes, and what a single cold run of each makes of them: the oracle for everything that
// resumes, rewinds, shares and batches.
#pragma once

#include <algorithm>
#include <vector>

#include "tiny_model.h"

namespace test {

struct Branch {
  Tokens tokens;
  std::vector<float> logits;            // (tokens, vocab_size), of one prefill
  std::vector<gptoss::Output> outputs;  // of token after token: the draw of sampling(position)
};

class Book {
 public:
  Book(int sliding_window, int branches, int length, uint64_t seed)
      : model(sliding_window, seed), length(length) {
    Random random(seed);
    const gptoss::EngineLimits limits{.max_context = length,
                                      .max_sequences = 1,
                                      .max_tokens = length,
                                      .max_outputs = length,
                                      .max_checkpoints = 0};
    const auto engine = open_engine(model, limits);
    for (int b = 0; b < branches; ++b) {
      Branch branch;
      if (b > 0) {  // parts from an earlier branch somewhere, often early and near a page's edge
        const int point =
            random.below(3) ? random.below(length) : 64 * random.below(length / 64) + random.below(3);
        branch.tokens = slice(this->branches[random.below(b)].tokens, 0, point);
      }
      branch.tokens = joined(branch.tokens,
                             random_tokens(random, model, length - static_cast<int>(branch.tokens.size())));
      branch.logits = cold(*engine, branch.tokens);
      const auto session = engine->session();
      for (int p = 0; p < length; ++p)
        branch.outputs.push_back(engine->step(
            {{.session = session, .tokens = {branch.tokens[p]}, .rows = {}, .sampling = sampling(p)}})[0]);
      this->branches.push_back(std::move(branch));
    }
  }

  // How the token after position `p` is drawn: all settings occur, and are a function of the position alone.
  gptoss::Sampling sampling(int p) const {
    Random random(p);
    gptoss::Sampling s;
    s.temperature = random.below(4) ? 0.5f + 0.1f * static_cast<float>(random.below(15)) : 0;
    s.top_p = random.below(2) ? 0.9f : 1;
    s.min_p = random.below(3) ? 0 : 0.05f;
    s.top_k = random.below(3) ? 0 : 10;
    s.seed = random.bits();
    s.index = static_cast<uint32_t>(random.below(4));
    s.logprobs = random.below(3) ? -1 : random.below(5);
    if (random.below(3) == 0) {
      s.repetition_penalty = 1.3f;
      s.presence_penalty = 0.4f;
      s.frequency_penalty = 0.2f;
      for (int token = random.below(5); token < model.config.vocab_size; token += 1 + random.below(9))
        s.edits.push_back(
            {token, random.below(2), random.below(3), static_cast<float>(random.below(5) - 2), 0});
    }
    if (random.below(3) == 0)
      for (int word = 0; word < 3; ++word) s.mask.push_back(static_cast<uint32_t>(random.bits()) | 1u);
    return s;
  }

  // Up to where two branches are the same.
  int shared(int a, int b) const {
    const Tokens &x = branches[a].tokens, &y = branches[b].tokens;
    return static_cast<int>(std::mismatch(x.begin(), x.end(), y.begin()).first - x.begin());
  }

  // What `output` should be: rows of tokens [first, last) of a branch, and the draw after the last one.
  bool right(const gptoss::Output& output, int branch, int first, int last, bool rows, bool drawn) const {
    const Branch& b = branches[branch];
    if (rows && !same(output.logits, rows_of(b.logits, model, first, last))) return false;
    if (!drawn) return true;
    const gptoss::Output& want = b.outputs[last - 1];
    return output.token == want.token && output.error == want.error && output.logprob == want.logprob &&
           output.top_tokens == want.top_tokens && same(output.top_logprobs, want.top_logprobs);
  }

  TinyModel model;
  int length;
  std::vector<Branch> branches;
};

}  // namespace test
