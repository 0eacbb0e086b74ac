// The emulator's twins of ptx/mbarrier.cuh: see mbarrier.cpp.
#pragma once

namespace gptoss::ptx {

void mbarrier_init(uint64_t* barrier, int arrivals, Site site = Site::current());
void fence_mbarrier_init(Site site = Site::current());
void fence_proxy_async(Site site = Site::current());
void mbarrier_arrive(uint64_t* barrier, Site site = Site::current());
void mbarrier_arrive_expect_tx(uint64_t* barrier, int bytes, Site site = Site::current());
bool mbarrier_try_wait_parity(uint64_t* barrier, uint32_t parity, Site site = Site::current());

}  // namespace gptoss::ptx
