// What metal-cpp needs of Objective-C's runtime; implemented by objc.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
typedef struct objc_class* Class;
typedef struct objc_object {
  Class isa;
}* id;
typedef struct objc_selector* SEL;
typedef struct objc_method* Method;
typedef struct objc_object Protocol;
typedef signed char BOOL;
typedef void (*IMP)(void);
SEL sel_registerName(const char* name);
const char* sel_getName(SEL selector);
Class objc_lookUpClass(const char* name);
Class objc_getClass(const char* name);
Class objc_getRequiredClass(const char* name);
Protocol* objc_getProtocol(const char* name);
Class object_getClass(id object);
Method class_getInstanceMethod(Class of, SEL selector);
BOOL class_respondsToSelector(Class of, SEL selector);
BOOL class_addMethod(Class of, SEL selector, IMP method, const char* types);
}
