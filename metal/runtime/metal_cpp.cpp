// The one file in which metal-cpp, Apple's C++ headers for Metal, defines what it declares everywhere.
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
