#include "objc.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "core/fault.h"
#include "metal.h"
#include "objc/message.h"

// A message is a call of whatever implements it, with the same arguments: they are put aside, the method is looked up,
// and execution goes on there.
#if defined(__x86_64__)
asm(R"(
.text
.globl objc_msgSend
.globl objc_msgSend_fpret
.type objc_msgSend, @function
objc_msgSend_fpret:
objc_msgSend:
  testq %rdi, %rdi
  je 1f
  pushq %rbp
  movq %rsp, %rbp
  subq $128, %rsp
  movq %rdi, -8(%rbp)
  movq %rsi, -16(%rbp)
  movq %rdx, -24(%rbp)
  movq %rcx, -32(%rbp)
  movq %r8, -40(%rbp)
  movq %r9, -48(%rbp)
  movsd %xmm0, -56(%rbp)
  movsd %xmm1, -64(%rbp)
  movsd %xmm2, -72(%rbp)
  movsd %xmm3, -80(%rbp)
  andq $-16, %rsp
  call fake_metal_method@PLT
  movq %rax, %r11
  movq -8(%rbp), %rdi
  movq -16(%rbp), %rsi
  movq -24(%rbp), %rdx
  movq -32(%rbp), %rcx
  movq -40(%rbp), %r8
  movq -48(%rbp), %r9
  movsd -56(%rbp), %xmm0
  movsd -64(%rbp), %xmm1
  movsd -72(%rbp), %xmm2
  movsd -80(%rbp), %xmm3
  leave
  jmp *%r11
1:
  xorl %eax, %eax
  xorps %xmm0, %xmm0
  ret
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl objc_msgSend
.type objc_msgSend, %function
objc_msgSend:
  cbz x0, 1f
  stp x29, x30, [sp, #-144]!
  mov x29, sp
  stp x0, x1, [sp, #16]
  stp x2, x3, [sp, #32]
  stp x4, x5, [sp, #48]
  stp x6, x7, [sp, #64]
  str x8, [sp, #80]
  stp d0, d1, [sp, #96]
  stp d2, d3, [sp, #112]
  bl fake_metal_method
  mov x16, x0
  ldp x0, x1, [sp, #16]
  ldp x2, x3, [sp, #32]
  ldp x4, x5, [sp, #48]
  ldp x6, x7, [sp, #64]
  ldr x8, [sp, #80]
  ldp d0, d1, [sp, #96]
  ldp d2, d3, [sp, #112]
  ldp x29, x30, [sp], #144
  br x16
1:
  mov x0, #0
  fmov d0, xzr
  ret
)");
#else
#error "messages are passed on for x86-64 and aarch64 only"
#endif

namespace fake_metal {
namespace {

struct World {
  std::mutex mutex;
  std::map<std::string, std::map<std::string, void*>> methods;  // by type and selector
  std::set<std::string> selectors;
  std::map<std::string, Object*> classes;
};
World& world() {
  static auto* const the_world = new World;
  return *the_world;
}

struct Made {
  std::mutex mutex;
  std::vector<const Object*> objects;
};
Made& made() {
  static auto* const all = new Made;
  return *all;
}

struct ClassObject : Object {
  explicit ClassObject(const char* name) : Object("class"), name(name) {}
  std::string name;
};

struct AutoreleasePool : Object {
  AutoreleasePool() : Object("NSAutoreleasePool") {}
  std::vector<Object*> owned;
};
thread_local std::vector<AutoreleasePool*> pools;

void release(Object* object) {
  if (--object->references > 0) return;
  object->alive = false;
  object->dealloc();
}

void drain(AutoreleasePool* pool) {
  if (pools.empty() || pools.back() != pool) note(pool, "is drained before one that was made later");
  for (Object* object : pool->owned) release(object);
  if (!pools.empty()) pools.pop_back();
  pool->alive = false;
}

std::string name_of(const Object* object) {
  if (const auto* of = dynamic_cast<const ClassObject*>(object)) return of->name;
  return object->type;
}

Object* allocated(const std::string& type) {
  if (type == "NSAutoreleasePool") {
    auto* const pool = new AutoreleasePool;
    pools.push_back(pool);
    return pool;
  }
  if (Object* object = allocate(type)) return object;
  std::fprintf(stderr, "fake Metal: +[%s alloc] is not there\n", type.c_str());
  std::abort();
}

}  // namespace

void note(const Object* object, const std::string& what) {
  emulator::note_fault(emulator::Kind::kLaunch, object ? name_of(object) : "Metal", "host", what);
}

void add_method(const char* type, const char* selector, void* body) {
  world().methods[type][selector] = body;
}

Object* autorelease(Object* object) {
  if (pools.empty())
    note(object, "is autoreleased where there is no pool: it is never given back");
  else
    pools.back()->owned.push_back(object);
  return object;
}

Object::Object(const char* type) : type(type) {
  const std::lock_guard lock(made().mutex);
  made().objects.push_back(this);
}

int living() {
  const std::lock_guard lock(made().mutex);
  int count = 0;
  for (const Object* object : made().objects) count += object->alive;
  return count;
}

std::map<std::string, Owned> owned() {
  const std::lock_guard lock(made().mutex);
  std::map<std::string, Owned> by_type;
  for (const Object* object : made().objects) {
    if (!object->alive || dynamic_cast<const ClassObject*>(object)) continue;
    ++by_type[object->type].objects;
    by_type[object->type].references += object->references;
  }
  return by_type;
}

void add_foundation() {
  method(
      "NSObject", "retain", +[](Object* self, const char*) {
        ++self->references;
        return self;
      });
  method("NSObject", "release", +[](Object* self, const char*) { release(self); });
  method("NSObject", "autorelease", +[](Object* self, const char*) { return autorelease(self); });
  method("NSObject", "init", +[](Object* self, const char*) { return self; });
  method(
      "NSObject", "respondsToSelector:", +[](Object* self, const char*, const char* selector) {
        return world().methods[self->type].count(selector) != 0 ||
               world().methods["NSObject"].count(selector) != 0;
      });
  method("class", "alloc", +[](ClassObject* self, const char*) { return allocated(self->name); });
  method("NSAutoreleasePool", "release", +[](AutoreleasePool* self, const char*) { drain(self); });
  method("NSAutoreleasePool", "drain", +[](AutoreleasePool* self, const char*) { drain(self); });
  method(
      "class",
      "stringWithCString:encoding:", +[](ClassObject*, const char*, const char* text, unsigned long) {
        return autorelease(new String(text));
      });
  method("NSString", "UTF8String", +[](String* self, const char*) { return self->text.c_str(); });
  method(
      "NSError", "localizedDescription",
      +[](Error* self, const char*) { return autorelease(new String(self->text)); });
  method(
      "NSArray", "count",
      +[](Array* self, const char*) { return static_cast<unsigned long>(self->items.size()); });
  method(
      "NSArray",
      "objectAtIndex:", +[](Array* self, const char*, unsigned long i) { return self->items.at(i); });
}

}  // namespace fake_metal

using fake_metal::Object;
using fake_metal::world;

// What implements the message; nothing returns from a message that nobody understands.
extern "C" __attribute__((visibility("hidden"))) void* fake_metal_method(Object* object,
                                                                         const char* selector) {
  const std::lock_guard lock(world().mutex);
  if (world().methods.empty()) {
    fake_metal::add_foundation();
    fake_metal::add_metal();
  }
  if (!object->alive)
    fake_metal::note(object, std::string(selector) + ": a message to an object that was released");
  for (const char* type : {object->type, "NSObject"}) {
    const auto methods = world().methods.find(type);
    if (methods == world().methods.end()) continue;
    const auto found = methods->second.find(selector);
    if (found != methods->second.end()) return found->second;
  }
  std::fprintf(stderr, "fake Metal: -[%s %s] is not there\n", fake_metal::name_of(object).c_str(), selector);
  std::abort();
}

extern "C" {
void objc_msgSend_stret(void) { std::abort(); }
#if !defined(__x86_64__)
void objc_msgSend_fpret(void) { std::abort(); }
#endif
SEL sel_registerName(const char* name) {
  const std::lock_guard lock(world().mutex);
  return reinterpret_cast<SEL>(const_cast<char*>(world().selectors.insert(name).first->c_str()));
}
const char* sel_getName(SEL selector) { return reinterpret_cast<const char*>(selector); }
Class objc_lookUpClass(const char* name) {
  const std::lock_guard lock(world().mutex);
  Object*& of = world().classes[name];
  if (!of) of = new fake_metal::ClassObject(name);
  return reinterpret_cast<Class>(of);
}
Class objc_getClass(const char* name) { return objc_lookUpClass(name); }
Class objc_getRequiredClass(const char* name) { return objc_lookUpClass(name); }
Protocol* objc_getProtocol(const char* name) { return reinterpret_cast<Protocol*>(objc_lookUpClass(name)); }
Class object_getClass(id object) { return reinterpret_cast<Class>(object); }
Method class_getInstanceMethod(Class, SEL) { return nullptr; }
BOOL class_respondsToSelector(Class, SEL) { return 1; }
BOOL class_addMethod(Class, SEL, IMP, const char*) { return 0; }
const void* CFRetain(const void* object) { return object; }
void CFRelease(const void*) {}
}

// Of blocks, which metal-cpp makes in functions that nobody calls here.
extern "C" {
void* _NSConcreteStackBlock[32];
void _Block_object_dispose(const void*, int) {}
void _Block_object_assign(void*, const void*, int) {}
}
