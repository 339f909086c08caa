// Functions on Node arrays, for values that are not in tensors: the float32 copies and the moments of trained weights.

#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "../adam.h"

// The part of Node-API that we use. The API is stable, so we don't need its headers.
extern "C" {
int napi_get_cb_info(void* env, void* info, size_t* count, void** values, void** self, void** data);
int napi_get_typedarray_info(void* env, void* value, int* type, size_t* length, void** data, void** buffer, size_t* offset);
int napi_get_value_double(void* env, void* value, double* number);
int napi_create_double(void* env, double number, void** value);
int napi_create_function(void* env, const char* name, size_t length, void* (*call)(void*, void*), void* data, void** value);
int napi_set_named_property(void* env, void* object, const char* name, void* value);
int napi_throw_error(void* env, const char* code, const char* message);
}

namespace {

// The arguments of one call, read in order. Wrong arguments throw a JavaScript error.
class NodeCall {
 public:
  NodeCall(void* env, void* info) : env_(env), fits_(napi_get_cb_info(env, info, &count_, values_, nullptr, nullptr) == 0) {}

  // An array of 32-bit floats, equal in length to earlier arrays.
  float* array() {
    constexpr int float32Array = 7;
    int type = -1;
    size_t length = 0;
    void* data = nullptr;
    fits_ = fits_ && at_ < count_ && napi_get_typedarray_info(env_, values_[at_++], &type, &length, &data, nullptr, nullptr) == 0 &&
            type == float32Array && (length_ < 0 || static_cast<int64_t>(length) == length_);
    length_ = static_cast<int64_t>(length);
    return static_cast<float*>(data);
  }

  double number() {
    double number = 0;
    fits_ = fits_ && at_ < count_ && napi_get_value_double(env_, values_[at_++], &number) == 0;
    return number;
  }

  int64_t length() const { return length_; }

  // Whether all arguments were valid.
  bool fit() const {
    if (!fits_) napi_throw_error(env_, nullptr, "A function on arrays takes Float32Arrays of one length, then numbers.");
    return fits_;
  }

 private:
  static constexpr size_t most = 16;
  void* env_;
  size_t count_ = most, at_ = 0;
  void* values_[most] = {};
  int64_t length_ = -1;
  bool fits_;
};

void* stepAdam(void* env, void* info) {
  NodeCall call(env, info);
  float *values = call.array(), *first = call.array(), *second = call.array(), *gradient = call.array();
  const AdamStep step{call.number(), call.number(), call.number(), call.number(), call.number(), call.number()};
  if (call.fit()) step.run(values, first, second, gradient, call.length());
  return nullptr;
}

void* squares(void* env, void* info) {
  NodeCall call(env, info);
  const float* values = call.array();
  void* result = nullptr;
  if (call.fit()) napi_create_double(env, sumOfSquares(values, call.length()), &result);
  return result;
}

bool exportFunction(void* env, void* exports, const char* name, void* (*call)(void*, void*)) {
  constexpr size_t wholeName = SIZE_MAX;
  void* value = nullptr;
  return napi_create_function(env, name, wholeName, call, nullptr, &value) == 0 && napi_set_named_property(env, exports, name, value) == 0;
}

bool exportFunctions(void* env, void* exports) {
  return exportFunction(env, exports, "stepAdam", stepAdam) && exportFunction(env, exports, "sumOfSquares", squares);
}

}  // namespace
