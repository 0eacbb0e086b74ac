#include "forward.h"

namespace gptoss {

void forward(Backend& device, State& state, const Model& model, const Batch& batch) {
  device.embed(state, *model.ends, batch);
  for (const auto& layer : model.layers) {
    device.attn_qkv(state, *layer, batch);
    device.attn(state, *layer, batch);
    device.attn_out(state, *layer, batch);
    device.moe_route(state, *layer, batch);
    device.moe_up(state, *layer, batch);
    device.moe_down(state, *layer, batch);
  }
  if (batch.rows > 0) device.unembed(state, *model.ends, batch);
  if (batch.samples > 0) device.sample(state, *model.ends, batch);
}

}  // namespace gptoss
