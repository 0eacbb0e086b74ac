// Empty: the stand-in of hip_runtime.h has the types.
#pragma once
