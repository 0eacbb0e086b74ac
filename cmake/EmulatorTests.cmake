# GPTOSS_EMULATOR_TESTS: the emulator of tests/emulator and its tests, for CTest. No GPU, no toolkit.
# GPTOSS_EMULATED_DEVICE: the GPU device of csrc/simt over the emulator's runtime, as the plug-ins `emulated` (CUDA),
# `emulated_wave64` and `emulated_wave32` (HIP).
# GPTOSS_EMULATED_METAL=FOLDER: the Metal device over a fake of Metal's runtime, as the plug-in `emulated_metal`; FOLDER
# holds metal-cpp, Apple's headers. Its kernels run in the emulator.

option(GPTOSS_EMULATOR_TESTS "Build the GPU emulator and its tests, for CTest" OFF)
option(GPTOSS_EMULATED_DEVICE "Build the GPU device over the emulator, a plug-in for tests" OFF)
set(GPTOSS_EMULATED_METAL "" CACHE PATH "metal-cpp, to build the Metal device over the emulator, a plug-in for tests")
if(NOT GPTOSS_EMULATOR_TESTS AND NOT GPTOSS_EMULATED_DEVICE AND NOT GPTOSS_EMULATED_METAL)
  return()
endif()
if(GPTOSS_SANITIZE STREQUAL "thread")
  message(FATAL_ERROR "GPTOSS_EMULATOR_TESTS and GPTOSS_SANITIZE=thread exclude each other: in every build the "
    "emulator has a race detector of its own in place of ThreadSanitizer's (tests/emulator/README.md).")
endif()
enable_testing()

set(emulator ${PROJECT_SOURCE_DIR}/tests/emulator)
file(GLOB emulator_sources CONFIGURE_DEPENDS ${emulator}/core/*.cpp ${emulator}/runtime/*.cpp
  ${emulator}/cuda/*.cpp ${emulator}/hip/*.cpp ${emulator}/metal/*.cpp)
add_library(gptoss_emulator STATIC ${emulator_sources})
target_include_directories(gptoss_emulator PUBLIC ${emulator})
target_compile_options(gptoss_emulator PRIVATE -Wno-unknown-pragmas)
target_include_directories(gptoss_emulator PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
set_source_files_properties(${emulator}/hip/matrix.cpp PROPERTIES
  COMPILE_DEFINITIONS __HIP_PLATFORM_AMD__=1 INCLUDE_DIRECTORIES "${emulator}/hip;${PROJECT_SOURCE_DIR}/hip")

# Kernels are compiled with a call before each memory access and behind each index that leaves its array, for
# the emulator's own detector (core/access.h): the flags go to the compiler alone, so that no sanitizer's
# runtime is linked. AddressSanitizer excludes them.
set(emulator_checks "")
if(NOT GPTOSS_SANITIZE)
  set(emulator_checks -fsanitize=thread,bounds,alignment,shift-exponent)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND emulator_checks --param=tsan-distinguish-volatile=1)
  else()
    list(APPEND emulator_checks "SHELL:-mllvm -tsan-distinguish-volatile=1")
  endif()
endif()

# gptoss_add_emulated_world(world language definitions...): emulated_<world>, how kernels are compiled to run in the emulator,
# with CUDA's headers or HIP's.
function(gptoss_add_emulated_world world language)
  add_library(emulated_${world} INTERFACE)
  target_include_directories(emulated_${world} INTERFACE ${emulator}/${language} ${PROJECT_SOURCE_DIR}/csrc
    ${PROJECT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/hip)
  # Local variables that a kernel forgets to initialise hold a pattern that no result survives.
  target_compile_options(emulated_${world} INTERFACE -g -O1 -Wno-unknown-pragmas -Wno-psabi
    -ftrivial-auto-var-init=pattern ${emulator_checks})
  target_compile_definitions(emulated_${world} INTERFACE ${ARGN})
  target_link_libraries(emulated_${world} INTERFACE gptoss_emulator)
endfunction()

# gptoss_compile_for(world sources...): emulated_<world>_device, sources of the GPU device that are compiled once for all programs
# and plug-ins of the world, each of which takes what it needs.
function(gptoss_compile_for world)
  add_library(emulated_${world}_device STATIC ${ARGN})
  set_target_properties(emulated_${world}_device PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(emulated_${world}_device PRIVATE ${GPTOSS_GENERATED})
  target_link_libraries(emulated_${world}_device PUBLIC emulated_${world} INTERFACE gptoss_engine)
endfunction()

set(simt_sources gpu_backend gpu_state gpu_weights ops runtime stages)
list(TRANSFORM simt_sources PREPEND ${PROJECT_SOURCE_DIR}/csrc/simt/)
list(TRANSFORM simt_sources APPEND .cpp)
gptoss_add_emulated_world(cuda cuda)
gptoss_compile_for(cuda ${simt_sources} ${PROJECT_SOURCE_DIR}/cuda/mma/kernels.cpp ${PROJECT_SOURCE_DIR}/cuda/tcgen05/kernels.cpp
  ${PROJECT_SOURCE_DIR}/cuda/wgmma/kernels.cpp)
foreach(wave 64 32)
  gptoss_add_emulated_world(wave${wave} hip __HIP_PLATFORM_AMD__=1 GPTOSS_EMULATED_WAVE=${wave})
  gptoss_compile_for(wave${wave} ${simt_sources} ${PROJECT_SOURCE_DIR}/hip/matrix/kernels.cpp)
endforeach()
gptoss_add_emulated_world(gfx12 hip __HIP_PLATFORM_AMD__=1 GPTOSS_EMULATED_WAVE=32 GPTOSS_EMULATED_GFX12=1)
gptoss_compile_for(gfx12 ${PROJECT_SOURCE_DIR}/csrc/simt/runtime.cpp ${PROJECT_SOURCE_DIR}/hip/matrix/kernels.cpp)

# gptoss_add_emulator_test(name world sources...): a program whose kernels run in the emulator.
function(gptoss_add_emulator_test name world)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE emulated_${world})
  add_test(NAME ${name} COMMAND ${name})
endfunction()

if(GPTOSS_EMULATED_DEVICE)
  foreach(world cuda wave64 wave32)
    string(REPLACE emulated_cuda emulated name emulated_${world})
    gptoss_add_device(${name} ${PROJECT_SOURCE_DIR}/tests/emulated_device/device.cpp ${PROJECT_SOURCE_DIR}/csrc/simt/plugin.cpp)
    target_compile_definitions(gptoss_device_${name} PRIVATE GPTOSS_EMULATED_NAME="${name}")
    target_link_libraries(gptoss_device_${name} PRIVATE emulated_${world}_device)
  endforeach()
endif()
include(${emulator}/metal/MetalKernels.cmake)
if(GPTOSS_EMULATED_METAL)
  include(${emulator}/metal/EmulatedMetal.cmake)
endif()
if(NOT GPTOSS_EMULATOR_TESTS)
  return()
endif()

foreach(name simt_test tensor_core_test hopper_test blackwell_test host_test instruction_test)
  gptoss_add_emulator_test(${name} cuda ${emulator}/${name}.cpp)
endforeach()

# Metal's kernels beside their namesakes of csrc/simt.
if(GPTOSS_METAL_KERNELS)
  gptoss_add_emulator_test(metal_twins_test cuda ${emulator}/metal_twins_test.cpp ${GPTOSS_METAL_KERNELS})
  target_include_directories(metal_twins_test PRIVATE ${PROJECT_SOURCE_DIR}/metal)
endif()

# The kernels of cuda/mma as they are, and copies of them with one fault each.
include(PlantFaults)
gptoss_plant_faults(cuda/mma mma gptoss::cuda product.cuh
  weight_ring.cuh wrong_wait_count "cp_async_wait_group<kStages - 2>" "cp_async_wait_group<kStages - 1>"
  weight_ring.cuh missing_commit "    ptx::cp_async_commit_group()" "    if (stage % 2) ptx::cp_async_commit_group()"
  weight_ring.cuh wrong_slot "oldest = stage + 1 == kStages ? 0 : stage + 1" "oldest = stage"
  product.cuh missing_sum_barrier "__syncthreads();  // all parts" "// all parts"
  product.cuh missing_reuse_barrier "__syncthreads();  // the next" "// the next"
  product.cuh wrong_fragment_row "g + n / 2 * 8]" "g + n % 2 * 8]"
  product.cuh wrong_part "first * kUnitDepth + 8 * t, scales" "8 * t, scales"
  weight_ring.cuh wrong_scale "scale[i / 2]" "scale[i % 2]"
  weight_ring.cuh wrong_half "unpack_and_multiply(words.z, words.w" "unpack_and_multiply(words.x, words.y"
  product.cuh wrong_pair "job.source(item, min(" "job.source(item, 0 * min(")
gptoss_plant_faults(cuda/mma block_scaled gptoss::cuda scaled.cuh
  scaled.cuh scaled_wrong_byte "e2m1_e4m3<2, 1>" "e2m1_e4m3<1, 1>"
  scaled.cuh scaled_neighbour "e2m1_e4m3<2, 1>" "e2m1_e4m3<2, 0>"
  scaled.cuh scaled_one_row " >> (lane % 2 * 8)" ""
  scaled.cuh scaled_first_scale ", x.scales += 2" ""
  scaled.cuh scaled_wrong_shift "codes << 2 & 0x3c3c3c3cu" "codes << 1 & 0x3c3c3c3cu"
  scaled.cuh scaled_no_mask "codes << 2 & 0x3c3c3c3cu" "codes << 2"
  scaled.cuh scaled_wrong_row "{even(words.x), even(words.y), odd(words.x), odd(words.y)}" "{even(words.x), odd(words.x), even(words.y), odd(words.y)}"
  scaled.cuh scaled_wrong_half "x_second[2] = {codes.z, codes.w}" "x_second[2] = {codes.x, codes.y}"
  scaled.cuh scaled_by_pair "this->tile(item).first + i" "this->pair(item, i)"
  quantize.cuh quantize_small_scale "kLargestExponent = 8" "kLargestExponent = 9"
  quantize.cuh quantize_large_scale "kLargestExponent = 8" "kLargestExponent = 7"
  quantize.cuh quantize_half_block "shuffle_xor(largest, 2)" "shuffle_xor(largest, 1)"
  quantize.cuh quantize_wrong_block "row[k + piece / 4]" "row[k + (piece / 4 ^ 1)]"
  quantize.cuh quantize_wrong_order "e4m3x4(v[0], v[2], v[4], v[6])" "e4m3x4(v[0], v[1], v[4], v[5])"
  quantize.cuh quantize_no_wait "  simt::wait_for_predecessors();" "")
gptoss_plant_faults(cuda/mma mma_few gptoss::cuda product.cuh
  team.cuh few_no_fence "__threadfence();  // what this" "// what this"
  team.cuh few_no_slot_barrier "__syncthreads();  // what was found" "// what was found"
  team.cuh few_not_reset "if (last) *arrived = 0;" ""
  team.cuh few_first_block "static_cast<unsigned>(blocks - 1)" "0u"
  norm.cuh few_no_square_barrier "__syncthreads();  // every warp's" "// every warp's"
  norm.cuh few_no_scale_barrier "__syncthreads();  // the scales" "// the scales"
  jobs.cuh few_other_order "(norm, norm_threads," "(norm, norm_threads / 2,"
  jobs.cuh few_no_choice_barrier "__syncthreads();  // all choices" "// all choices"
  jobs.cuh few_no_sum_barrier "__syncthreads();                       // what it" "// what it"
  jobs.cuh few_early_sum "if (item + parts() < items()) return;  // the whole" "// the whole"
  jobs.cuh few_strip_twice "item % parts() + team.blocks;" "item % parts() + 1;"
  team.cuh few_no_count_fence "__threadfence();  // who waits" "// who waits"
  team.cuh few_no_wait_barrier "__syncthreads();  // by all threads" "// by all threads"
  team.cuh few_no_wait "while (*static_cast<const volatile unsigned*>(arrived) < static_cast<unsigned>(blocks)) continue;" ""
  jobs.cuh few_awaited_not_reset "atomicExch(awaited, 0u);" "{}"
  jobs.cuh few_waits_for_one_less "wait_for_blocks(awaited, attn_out_blocks)" "wait_for_blocks(awaited, attn_out_blocks - 1)"
  activations.cuh few_wrong_gain "gain = job.norm.gain + k" "gain = job.norm.gain"
  activations.cuh few_wrong_term "term[j] = column_term" "term[j] = column_term * 0")
gptoss_plant_faults(cuda/mma mma_attention gptoss::cuda attention.cuh
  attention.cuh attn_no_wait "    ptx::cp_async_wait_group<0>();\n" ""
  attention.cuh attn_no_warp_barrier "__syncwarp();  // the other" "// the other"
  attention.cuh attn_no_state_barrier "__syncthreads();  // the states" "// the states"
  attention.cuh attn_no_rescale "acc[s][j][2 * half + c] *= keep;" ""
  attention.cuh attn_no_transpose "ptx::movmatrix_trans(ptx" "(ptx"
  attention.cuh attn_unwritten_values ": row < live;" ": true;"
  attention.cuh attn_wrong_wait_count "cp_async_wait_group<1>" "cp_async_wait_group<2>"
  attention.cuh attn_no_reuse_barrier "__syncthreads();  // all have read it" "// all have read it"
  attention.cuh attn_wrong_mask "slot < end[j][c] ?" "slot <= end[j][c] ?"
  team.cuh attn_no_fence "__threadfence();  // what this" "// what this"
  team.cuh attn_no_store_barrier "__syncthreads();  // all threads' stores" "// all threads' stores"
  team.cuh attn_not_reset "if (last) *arrived = 0;" ""
  attention.cuh attn_wrong_counter "args.arrived + token * a.kv_heads + kv_head" "args.arrived + token"
  attention.cuh attn_short_splits "(rounds + kMostSplits - 1) / kMostSplits" "1"
  attention.cuh attn_wrong_sequence "bool here = i >= begin && i < end;" "bool here = true;")
gptoss_add_emulator_test(mma_attention_test cuda ${emulator}/mma_attention_test.cpp)
target_include_directories(mma_attention_test PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)
foreach(name mma_product_test mma_few_test)
  gptoss_add_emulator_test(${name} cuda ${emulator}/${name}.cpp)
  target_link_libraries(${name} PRIVATE emulated_cuda_device)
  target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)
endforeach()
gptoss_plant_faults(cuda/wgmma wgmma gptoss::cuda::wgmma product.cuh
  ring.cuh no_proxy_fence "    ptx::fence_proxy_async(); " "    "
  ring.cuh no_box_bytes "kUnitBytes + kTileBytes)" "kUnitBytes)"
  ring.cuh wrong_box "unit * cuda::kUnitDepth, job.first" "unit * cuda::kUnitDepth + 1, job.first"
  ring.cuh too_few_bytes "work.strips * Format::kUnitBytes)" "(work.strips - 1) * Format::kUnitBytes)"
  ring.cuh one_arrival_too_few "1 + kProducers" "kProducers"
  ring.cuh no_wait_for_empty "wait_for(&empty[turn.stage], turn.parity ^ 1);" "(void)turn;"
  ring.cuh no_swizzle "(piece ^ first_row % 8)" "piece"
  ring.cuh late_copies "cp_async_wait_group<kLag>" "cp_async_wait_group<kLag + 1>"
  ring.cuh next_column "min(first_row + r * kRowStep, live" "min(first_row + r * kRowStep + 1, live"
  ring.cuh next_strip "from = job.weights(job.item(work.strip + thread," "from = job.weights(job.item(work.strip + (thread ^ 1),"
  fragments.cuh first_scales "lane() / 4 * 2 + half]" "lane() / 4 * 2]"
  fragments.cuh same_half "2 * simt::lane() + half]" "2 * simt::lane()]"
  product.cuh no_first_barrier "__syncthreads();  // the barriers" "// the barriers"
  product.cuh wrong_parity "turn.stage], turn.parity)" "turn.stage], turn.parity ^ 1)"
  product.cuh no_wait_for_products "    ptx::wgmma_wait_group<0>();\n" ""
  product.cuh no_register_fence "    ptx::wgmma_fence();" "    "
  product.cuh wrong_step "b + 2)" "b + 1)"
  product.cuh wrong_half "+ half * 64)" "+ half * 32)"
  product.cuh chain_goes_on "_first<kN>" "<kN>"
  product.cuh part_goes_on "part[i] = 0;" ""
  product.cuh early_release "add_products<kN>(1, chain, part);\n        release(stage);" "release(stage);\n        add_products<kN>(1, chain, part);"
  product.cuh no_sum_barrier "simt::sync_warp();  // all sums" "// all sums"
  product.cuh wrong_column "+ 2 * t + n % 2," "+ 2 * t + (n + 1) % 2,")
gptoss_add_emulator_test(wgmma_product_test cuda ${emulator}/wgmma_product_test.cpp)
target_link_libraries(wgmma_product_test PRIVATE emulated_cuda_device)
target_include_directories(wgmma_product_test PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)
gptoss_plant_faults(cuda/wgmma wgmma_attention gptoss::cuda::wgmma attention.cuh
  attention.cuh page_half_announced "expect_tx(arrived, cuda::kPageBytes)" "expect_tx(arrived, cuda::kPageBytes / 2)"
  attention.cuh page_not_empty "wait_for(&ring.empty[turn.stage], turn.parity ^ 1);" ""
  attention.cuh page_one_arrival_too_few "kAttendants / simt::kWarp)" "kAttendants / simt::kWarp - 1)"
  attention.cuh page_no_first_barrier "__syncthreads();  // the barriers" "// the barriers"
  attention.cuh page_not_waited_for "if (more) wait_for_page();   // here" "// here"
  attention.cuh page_wrong_parity "wait_for(&ring.full[turn.stage], turn.parity)" "wait_for(&ring.full[turn.stage], turn.parity ^ 1)"
  attention.cuh page_stale_stage "stage = weighed;" "stage = weighed ? weighed - 1 : weighed;"
  attention.cuh page_early_release "        ptx::wgmma_wait_group<0>();  // the sums are there, and" "        ring.release(stage), ptx::wgmma_wait_group<0>(), stage = weighed, pack_weights();\n        if (true) continue;  //"
  attention.cuh page_passed_early "wait_for_page();  // so that" "// so that"
  attention.cuh page_not_passed "    for (; p < all.end_page(); ++p) pass_page();" ""
  attention.cuh page_wrong_head "+ head_row)" "+ head_row + kPageRows / 2)"
  attention.cuh page_wrong_sequence "a.sequence[tile.first_token + begin]) * a.kv" "a.sequence[tile.first_token]) * a.kv"
  attention.cuh page_unwritten_values "values[i] = uint4{0, 0, 0, 0};" "(void)values;"
  attention.cuh page_zeros_early "int i = live * 8 +" "int i = live * 8 - 8 +"
  attention.cuh page_not_landed "        wait_for(ring.landed, landed_parity);\n" ""
  attention.cuh page_no_proxy_fence "        ptx::fence_proxy_async();" "        "
  attention.cuh page_no_warp_barrier "simt::sync_warp();         // and what" "// and what"
  attention.cuh attend_wrong_step "rows_at(keys + s * 16 *" "rows_at(keys + s * 8 *"
  attention.cuh attend_not_transposed "ptx::wgmma_m64k16_bf16_rows_first<64>" "ptx::wgmma_m64k16_bf16_first<64>"
  attention.cuh attend_keys_as_values "cuda::kPageBytes + cuda::kMatrixBytes;" "cuda::kPageBytes;"
  attention.cuh attend_wrong_half "j % 2 * 2 + r]" "r * 2 + j % 2]"
  attention.cuh attend_scores_go_on "bf16_rows_first<64>" "bf16_rows<64>"
  attention.cuh attend_no_wait_for_scores "        ptx::wgmma_wait_group<1>();" "        "
  attention.cuh attend_no_wait_for_sums "        ptx::wgmma_wait_group<0>();  // the sums" "        // the sums"
  attention.cuh attend_early_weights "weigh(p, masked(p));         // while" "weigh(p, masked(p)), weights[0][0] = ptx::cvt_bf16x2(score[0], score[1]);  // while"
  attention.cuh attend_no_fence "        ptx::wgmma_fence();  // weights and scaled sums are in their registers, and" "        // and"
  attention.cuh attend_no_rescale "acc[i] *= keep[i / 2 % 2];" ""
  attention.cuh attend_other_row "keep[i / 2 % 2]" "keep[1 - i / 2 % 2]"
  attention.cuh attend_one_lane "largest = fmaxf(largest, simt::shuffle_xor(largest, mask));" "(void)simt::shuffle_xor(largest, mask);"
  attention.cuh attend_other_order "part[n % 2] += x" "part[n / 8] += x"
  attention.cuh attend_sees_the_future "slot < to ?" "slot <= to ?"
  attention.cuh attend_sees_behind_the_window "slot >= from &&" "slot >= from - 1 &&"
  attention.cuh attend_all_sequences "i >= begin && i < end_token ? keys.end : 0" "keys.end"
  attention.cuh attend_whole_for_some "<= mine.all_end)" "<= mine.end)"
  attention.cuh attend_not_alone "bool alone = begin <= min(from, tile.live - 1) && end_token >= last" "bool alone = true"
  attention.cuh attend_one_page_less "(end + cuda::kPage - 1) / cuda::kPage" "end / cuda::kPage"
  attention.cuh attend_all_pages "return first / cuda::kPage;" "return 0;"
  attention.cuh attend_sink_twice "total(a, head, m[r], l[r]);" "total(a, head, m[r], l[r] + exp2f(a.sinks[head] * cuda::kLog2E - m[r]));"
  attention.cuh attend_other_sink "total(a, head, m" "total(a, head ^ 1, m")
gptoss_add_emulator_test(wgmma_attention_test cuda ${emulator}/wgmma_attention_test.cpp)
target_include_directories(wgmma_attention_test PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)
gptoss_plant_faults(cuda/tcgen05 tcgen05 gptoss::cuda::tcgen05 product.cuh
  product.cuh tcgen05_scale_byte "tcgen05_e2m1_e4m3<kColumns>(step)" "tcgen05_e2m1_e4m3<kColumns>(step ^ 1)"
  product.cuh tcgen05_first_scale "tcgen05_e2m1_e4m3<kColumns>(step)" "tcgen05_e2m1_e4m3<kColumns>(0)"
  product.cuh tcgen05_scales_changed "(step), a_scales, b_scales," "(step), b_scales, a_scales,"
  product.cuh tcgen05_no_swizzle "weights = ptx::tcgen05_descriptor_128b(ring.weights)" "weights = ptx::tcgen05_descriptor_plain(ring.weights)"
  product.cuh tcgen05_stride "weights = ptx::tcgen05_descriptor_128b(ring.weights)" "weights = ptx::tcgen05_descriptor(ring.weights, 512, 2)"
  product.cuh tcgen05_swizzled_scales "scales = ptx::tcgen05_descriptor_plain(ring.scales)" "scales = ptx::tcgen05_descriptor_128b(ring.scales)"
  product.cuh tcgen05_wgmma_descriptor "tiles = ptx::tcgen05_descriptor_128b(ring.tiles)" "tiles = ptx::tcgen05_descriptor_128b(ring.tiles) & ~(uint64_t{1} << 46)"
  product.cuh tcgen05_step "a + step * kStepDepth / 16" "a + step"
  product.cuh tcgen05_never_anew "b + step > 0" "true"
  product.cuh tcgen05_always_anew "b + step > 0" "b > 0"
  product.cuh tcgen05_too_deep "if (b * kSteps + step < steps)" "if (b * kSteps + step < steps + 1)"
  product.cuh tcgen05_no_full_wait "wait_for(&ring.full[turn.stage], turn.parity);" ""
  product.cuh tcgen05_no_done_wait "wait_for(&sets.done[set.stage], set.parity);" ""
  product.cuh tcgen05_no_taken_wait "wait_for(&sets.taken[set.stage], set.parity ^ 1);" ""
  product.cuh tcgen05_no_fence_behind_full "ptx::tcgen05_fence_after();  // what used" "// what used"
  product.cuh tcgen05_no_fence_behind_done "ptx::tcgen05_fence_after();  // the products" "// the products"
  product.cuh tcgen05_no_fence_before_taken "ptx::tcgen05_fence_before();  // the loads" "// the loads"
  product.cuh tcgen05_no_warp_barrier "simt::sync_warp();            // by all" "// by all"
  product.cuh tcgen05_no_reuse_barrier "simt::sync_warp();  // the next" "// the next"
  product.cuh tcgen05_no_load_wait "      ptx::tensor_wait_load();\n" ""
  product.cuh tcgen05_quarter "tensor_address(memory, warp * simt::kWarp," "tensor_address(memory, (warp ^ 1) * simt::kWarp,"
  product.cuh tcgen05_other_set "set.stage * kColumns + first)" "(set.stage ^ 1) * kColumns + first)"
  product.cuh tcgen05_next_column "sums[sum_at(first + j, lane)] = values[j]" "sums[sum_at(first + (j ^ 1), lane)] = values[j]"
  product.cuh tcgen05_first_strip "sum_at(column, s * cuda::kStripRows + row)" "sum_at(column, row)"
  product.cuh tcgen05_one_scale_place "kScalesAt + turn.stage * 2 * Shape::kScaleColumns" "kScalesAt"
  product.cuh tcgen05_no_dealloc "    ptx::tensor_dealloc(memory, Shape::kAllocated);\n" ""
  product.cuh tcgen05_other_dealloc "tensor_dealloc(memory, Shape::kAllocated)" "tensor_dealloc(memory, 32)"
  product.cuh tcgen05_early_dealloc "__syncthreads();              // nobody" "// nobody"
  product.cuh tcgen05_no_last_fence "    ptx::tcgen05_fence_after();\n    ptx::tensor_dealloc" "    ptx::tensor_dealloc"
  product.cuh tcgen05_no_first_barrier "__syncthreads();  // the barriers" "// the barriers"
  product.cuh tcgen05_few_columns "tensor_alloc(sets.address, Shape::kAllocated)" "tensor_alloc(sets.address, Shape::kAllocated / 2)"
  product.cuh tcgen05_odd_columns "tensor_alloc(sets.address, Shape::kAllocated)" "tensor_alloc(sets.address, Shape::kUsed - 16)"
  product.cuh tcgen05_no_permit "    ptx::tensor_alloc(sets.address, Shape::kAllocated);\n    ptx::tensor_relinquish();" "    ptx::tensor_relinquish();\n    ptx::tensor_alloc(sets.address, Shape::kAllocated);"
  product.cuh tcgen05_column_0 "const uint32_t memory = *sets.address;" "const uint32_t memory = 0 * *sets.address;"
  product.cuh tcgen05_no_commit "      ptx::tcgen05_commit(&ring.empty[turn.stage]);\n" ""
  product.cuh tcgen05_early_commit "      ptx::tensor_copy_32x128b(b_scales," "      ptx::tcgen05_commit(&ring.empty[turn.stage]);\n      ptx::tensor_copy_32x128b(b_scales,"
  product.cuh tcgen05_no_done "    ptx::tcgen05_commit(&sets.done[set.stage]);\n" ""
  ring.cuh tcgen05_no_proxy_fence "    ptx::fence_proxy_async(); " "    "
  ring.cuh tcgen05_few_bytes "kBlockBytes + Shape::kTileBytes)" "kBlockBytes)"
  ring.cuh tcgen05_padding_counted "kBlockBytes + Shape::kTileBytes)" "kBlockBytes + kCodeBytes + Shape::kTileBytes)"
  ring.cuh tcgen05_few_arrivals "kArrivals = simt::kWarp + 1" "kArrivals = simt::kWarp"
  ring.cuh tcgen05_no_empty_wait "wait_for(&empty[turn.stage], turn.parity ^ 1);" "(void)turn;"
  ring.cuh tcgen05_late_scales "cp_async_wait_group<Shape::kLag>" "cp_async_wait_group<Shape::kLag + 1>"
  ring.cuh tcgen05_next_pair "min(32 * j + lane, tile.count - 1)" "min(32 * j + (lane ^ 1), tile.count - 1)"
  ring.cuh tcgen05_wrong_block "block * (kBlockBytes / kRowBytes)" "block * kBlockRows"
  ring.cuh tcgen05_wrong_scales "+ block * kBlockBytes + kCodeBytes" "+ first_block * kBlockBytes + kCodeBytes"
  ring.cuh tcgen05_wrong_box "b * kBlockDepth, tile.first" "b * kBlockDepth + 1, tile.first"
  ring.cuh tcgen05_wrong_tile "b * kBlockDepth, tile.first" "b * kBlockDepth, tile.first + 1"
  ring.cuh tcgen05_other_expert "tile.expert * expert_blocks" "(2 - tile.expert) * expert_blocks"
  ring.cuh tcgen05_no_drain "stage < Shape::kStages; ++stage) {\n    ring.wait_until" "stage < 0; ++stage) {\n    ring.wait_until"
  ring.cuh tcgen05_all_announce "if (ptx::elect_one()) {" "if (ptx::elect_one() || lane == 1) {"
  weights.cuh tcgen05_scale_rows "row % 32 * 16 + row / 32 * 4 + step" "row * 4 + step")
gptoss_plant_faults(cuda/mma tcgen05_quantize gptoss::cuda quantize.cuh
  quantize.cuh tcgen05_quantize_order "e4m3x4(v[0], v[1], v[2], v[3])" "e4m3x4(v[0], v[2], v[1], v[3])"
  quantize.cuh tcgen05_quantize_fragments "Order::store(row" "FragmentOrder::store(row")
gptoss_add_emulator_test(tcgen05_product_test cuda ${emulator}/tcgen05_product_test.cpp)
target_link_libraries(tcgen05_product_test PRIVATE emulated_cuda_device)
target_include_directories(tcgen05_product_test PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)

# HIP, once for each size of a wave.
foreach(wave 64 32)
  gptoss_add_emulator_test(wave${wave}_test wave${wave} ${emulator}/wave_test.cpp)
endforeach()

# The kernels of hip/matrix, for each kind of matrix core, and copies of them with one fault each.
gptoss_plant_faults(hip/matrix matrix gptoss::hip product.cuh
  product.cuh wrong_lane_map "s * kStripRows + Core::row(i)" "s * kStripRows + Core::row(Core::kSums - 1 - i)"
  product.cuh wrong_column "(kTileColumns * j + column) * kPitch" "(kTileColumns * j + (column ^ 1)) * kPitch"
  core.cuh wrong_group "simt::lane() / 16 % MatrixCore::kGroups" "simt::lane() / 8 % 2"
  product.cuh missing_part_barrier "__syncthreads();  // this wave's part" "// this wave's part"
  product.cuh missing_reuse_barrier "__syncthreads();  // the next" "// the next"
  product.cuh late_weights "if (step + 1 < end)" "if (step + 2 < end)"
  product.cuh step_too_few "(wave + 1) * steps / kProductWaves" "(wave + 1) * steps / kProductWaves - wave / 3"
  product.cuh unit_past_the_end "raw[s].clear()" "raw[s].load(weights + s * strip_bytes + unit * Format::kUnitBytes)"
  product.cuh divergent_multiply "Format::multiply(w[s]" "if (column < 8) Format::multiply(w[s]"
  weights.cuh wrong_scale "unit[kMxfp4CodeBytes + row]" "unit[kMxfp4CodeBytes + (row + 1) % kStripRows]"
  weights.cuh wrong_half "unpack(words[i] >> 4, second)" "unpack(words[i] >> 3, second)"
  weights.cuh wrong_permute "0x06040200u" "0x04060200u"
  weights.cuh no_sign ", magnitude) | sign" ", magnitude) | (sign & 0)"
  weights.cuh wrong_table "permute_bytes(low[1], low[0], magnitude)" "permute_bytes(low[0], low[1], magnitude)"
  weights.cuh sign_in_magnitude "codes & 0x07070707u" "codes & 0x0f0f0f0fu"
  weights.cuh not_cleared "quarter[i] = {0, 0, 0, 0}" "(void)0"
  product.cuh columns_overlap "static constexpr int kPitch =\n      kStrips * kStripRows + 4" "static constexpr int kPitch =\n      kStrips * kStripRows - 4"
  product.cuh first_term "term < terms; ++term" "term < 1; ++term"
  product.cuh same_term "* terms + c % terms)" "* terms)"
  core.cuh other_order "&b, x.pairs + i * kPairs" "&b, x.pairs + (kUnitDepth / MatrixCore::kElements - 1 - i) * kPairs"
  core.cuh exchanged "MatrixCore::multiply(sums, a, b)" "MatrixCore::multiply(sums, b, a)")
gptoss_plant_faults(hip/matrix matrix_scaled gptoss::hip "product.cuh;scaled.cuh"
  scaled.cuh scaled_large "(largest >> 23) - 7" "(largest >> 23) - 8"
  scaled.cuh scaled_second "max(x.scale - 4, 0)" "max(x.scale - 3, 0)"
  scaled.cuh scaled_exchanged "w.codes, w.scale, x.nearest, x.scale" "w.codes, x.scale, x.nearest, w.scale"
  scaled.cuh scaled_byte "unpack_fp8<3>(word)" "unpack_fp8<2>(word)"
  scaled.cuh scaled_half "max(x.pairs[i] << 16 & 0x7fff0000u, x.pairs[i] & 0x7fff0000u)" "x.pairs[i] & 0x7fff0000u"
  scaled.cuh scaled_wraps "max(x.scale - 4, 0)" "x.scale - 4")
gptoss_plant_faults(hip/matrix matrix_attention gptoss::hip attention.cuh
  attention.cuh no_page_barrier "__syncthreads();  // the page" "// the page"
  attention.cuh no_reuse_barrier "__syncthreads();  // all have read" "// all have read"
  attention.cuh no_weight_barrier "simt::sync_warp();  // all weights" "// all weights"
  attention.cuh window_off_by_one "max(0, position - a.window + 1)" "max(0, position - a.window)"
  attention.cuh mask_off_by_one "slot <= last" "slot < last"
  attention.cuh other_sequence "column.live && column.token >= from && column.token < to" "column.live"
  attention.cuh wrong_row "weights[slot] =" "weights[slot ^ 1] ="
  attention.cuh wave_of_32 "mask < simt::kWarp; mask" "mask < simt::kWarp / 2; mask"
  attention.cuh no_rescale "acc[r][i] * keep + later" "acc[r][i] + later"
  attention.cuh unwritten_values "row >= first && row < last ?" "true ?"
  attention.cuh split_left_out "int split = column.first_key" "int split = 1 + column.first_key")
# gptoss_add_matrix_tests(core world)
function(gptoss_add_matrix_tests core world)
  foreach(part product attention)
    set(name ${core}_${part}_test)
    gptoss_add_emulator_test(${name} ${world} ${emulator}/hip_${part}_test.cpp)
    target_link_libraries(${name} PRIVATE emulated_${world}_device)
    target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/planted_faults)
    target_compile_definitions(${name} PRIVATE GPTOSS_TEST_NAME="${name}")
  endforeach()
endfunction()
gptoss_add_matrix_tests(mfma wave64)
gptoss_add_matrix_tests(wmma wave32)
gptoss_add_matrix_tests(wmma_gfx12 gfx12)

# The GPU backend in either world: its results against the CPU device's, and graphs against eager steps.
function(gptoss_add_backend_test name world)
  gptoss_add_emulator_test(${name} ${world} ${emulator}/gpu_backend_test.cpp)
  target_link_libraries(${name} PRIVATE emulated_${world}_device)
endfunction()
gptoss_add_backend_test(gpu_backend_test cuda)
foreach(wave 64 32)
  gptoss_add_backend_test(gpu_backend_wave${wave}_test wave${wave})
endforeach()
