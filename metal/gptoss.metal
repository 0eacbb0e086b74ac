// All kernels of the Metal device, one file for each stage, as one program: it is compiled on the user's machine.
// CMake puts the text together (flatten.cmake), so that no file has to be found there.
#include "attention.metal"
#include "ceilings.metal"
#include "embed.metal"
#include "linear.metal"
#include "matrix.metal"
#include "moe.metal"
#include "norm.metal"
#include "qkv.metal"
#include "route.metal"
#include "sample.metal"
