// Faults planted in the test kernels, by name. A kernel is a template on the fault that it has, so that one
// source is the clean kernel and its spoiled twins: `if constexpr (kFault != Fault::kMissingBarrier)
// __syncthreads();`
#pragma once

enum class Fault {
  kNone,
  // SIMT
  kMissingBarrier,
  kMissingSecondBarrier,
  kBarrierInBranch,
  kEarlyReturn,
  kMaskOffByOne,
  kShuffleInBranch,
  kShuffleFromAbsentLane,
  kMissingWarpSync,
  kIndexOffByOne,
  kUninitialised,
  kSharedOffByOne,
  kMisalignedVector,
  kHostPointer,
  kPlainIncrement,
  kMissingFence,
  kCounterNotReset,
  kUseAfterFree,
  kLaneZeroOnly,
  // cp.async, ldmatrix, mma.sync
  kWrongWaitCount,
  kMissingCommit,
  kMissingCopyBarrier,
  kMissingReuseBarrier,
  kWrongFragmentIndex,
  kWrongFragmentRow,
  kWrongSwizzle,
  kMisalignedCopy,
  kHalfWarpMma,
  // mbarrier, tensor copies, wgmma
  kWrongPhase,
  kWrongBytes,
  kWrongArrivals,
  kEarlyRelease,
  kMissingProductWait,
  kMissingRegisterFence,
  kMissingProxyFence,
  kWrongDescriptorStride,
  kUnswizzledDescriptor,
  kMissingInitBarrier,
  kBoxOffByOne,
  // named barriers, dependent launches, graphs
  kWrongBarrierCount,
  kWrongBarrierId,
  kReadBeforeWait,
  kWriteBeforeWait,
  kMissingWait,
  kArgumentByValue,
  kMissingEventWait,
  kMissingSynchronize,
  // waves, MFMA, WMMA
  kWave32,
  kWrongBlock,
  kTransposed,
  kHalfWaveMfma,
};
