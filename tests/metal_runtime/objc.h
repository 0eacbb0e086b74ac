// Objects, classes and messages: as much of Objective-C as metal-cpp sends.
//
// Objects are never given back to the system, so that a message to one that was released is noticed, by name. What goes
// wrong is noted as the emulator's faults are; a test that passes has seen none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fake_metal {

struct Object {
  explicit Object(const char* type);
  virtual ~Object() = default;
  virtual void dealloc() {}  // nobody owns it any more

  const char* type;
  int references = 1;
  bool alive = true;
};

Object* autorelease(Object* object);  // owned by the innermost pool
void note(const Object* object, const std::string& what);

// A method of a type, `R method(T* self, A...)`: what a message that names it calls. Types are those of Metal's protocols.
void add_method(const char* type, const char* selector, void* method);
template <class R, class T, class... A>
void method(const char* type, const char* selector, R (*body)(T*, const char*, A...)) {
  add_method(type, selector, reinterpret_cast<void*>(body));
}

struct String : Object {
  explicit String(std::string text) : Object("NSString"), text(std::move(text)) {}
  std::string text;
};
struct Error : Object {
  explicit Error(const std::string& text) : Object("NSError"), text(text) {}
  std::string text;
};
struct Array : Object {
  Array() : Object("NSArray") {}
  std::vector<Object*> items;
};

void add_foundation();

// Of all objects that were ever made, those that somebody still owns.
int living();
// The same by type, without classes.
struct Owned {
  int objects = 0, references = 0;
};
std::map<std::string, Owned> owned();

}  // namespace fake_metal
