#pragma once

#include <math.h>

extern "C" {
typedef const void* CFTypeRef;
typedef const struct __CFString* CFStringRef;
typedef const struct __CFDictionary* CFDictionaryRef;
typedef const struct __CFDate* CFDateRef;
typedef const struct __CFArray* CFArrayRef;
typedef const struct __CFURL* CFURLRef;
typedef double CFTimeInterval;
CFTypeRef CFRetain(CFTypeRef object);
void CFRelease(CFTypeRef object);
}
