// The columns that a warp multiplies: a lane's eight elements of each, as two fragments of mma.sync take them.
//
// Lane 4 g + t has column 8 j + g of a tile j, and of each 32 elements of k the eight from 8 t on.
#pragma once

#include "simt/load.cuh"

namespace gptoss::cuda {

// Terms as another kernel has written them.
template <int kTiles>
struct Activations {
  const uint4* x;       // moves on
  uint32_t at[kTiles];  // of the lane's column, in units of 16 bytes
  int used;             // tiles of which some column is live

  // The lane's column of tile j: a term of a source, from k on.
  template <class Job>
  GPTOSS_DEVICE void set(int j, const Job& job, int source, int term, int k, const float*) {
    x = reinterpret_cast<const uint4*>(job.x().terms);
    at[j] = static_cast<uint32_t>(source * job.x().count + term) * (job.depth() / 8) + k / 8;
  }
  GPTOSS_DEVICE uint4 load(int j) const { return x[at[j]]; }
  GPTOSS_DEVICE void advance() { x += 4; }  // lanes t = 0 to 3 have 16 bytes each
};

// Terms of a norm that nobody has written: made here of the rows before it, to the bits of rmsnorm and store_operand.
template <int kTiles>
struct NormedActivations {
  const float *x, *gain;  // move on
  uint32_t at[kTiles];    // of the lane's column
  float scale[kTiles];
  int term[kTiles];
  int used;

  template <class Job>
  GPTOSS_DEVICE void set(int j, const Job& job, int source, int column_term, int k, const float* scales) {
    x = job.norm.x, gain = job.norm.gain + k;
    at[j] = static_cast<uint32_t>(source) * job.depth() + k;
    scale[j] = scales[source], term[j] = column_term;
  }
  GPTOSS_DEVICE uint4 load(int j) const {
    float v[8], g[8];
    simt::load_floats(x + at[j], v);
    simt::load_floats(gain, g);
    uint4 words;
    uint32_t* const word = &words.x;
#pragma unroll
    for (int i = 0; i < 8; i += 2)
      word[i / 2] = take_term(v[i] * scale[j] * g[i], term[j]) | take_term(v[i + 1] * scale[j] * g[i + 1], term[j]) << 16;
    return words;
  }
  GPTOSS_DEVICE void advance() { x += 32, gain += 32; }

 private:
  static GPTOSS_DEVICE uint32_t take_term(float value, int term) {
    for (int n = 0; n < term; ++n) value -= simt::bf16_to_float(simt::float_to_bf16(value));
    return simt::float_to_bf16(value);
  }
};

}  // namespace gptoss::cuda
