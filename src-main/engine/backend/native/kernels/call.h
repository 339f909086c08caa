// Tensors and attributes of one call from TensorFlow.

#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "tensorflow-c.h"

namespace {

constexpr int float32 = 1, int32 = 3, invalidArgument = 3;

const int32_t* wordsOf(const TF_Tensor* tensor) { return static_cast<const int32_t*>(TF_TensorData(tensor)); }

// The tensors of one call, freed with it. Mismatched shapes give an error instead of an out-of-bounds read.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}

  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }

  // Assigns the inputs to the names in order. Returns false, with the call failed, if one is unavailable.
  bool inputs(std::initializer_list<const TF_Tensor**> names) {
    int index = 0;
    for (const TF_Tensor** name : names)
      if (!(*name = input(index++))) return false;
    return true;
  }

  // The same for a list of inputs that follows `first` others.
  bool inputs(int first, std::vector<const TF_Tensor*>& list) {
    for (const TF_Tensor*& one : list)
      if (!(one = input(first++))) return false;
    return true;
  }

  // Allocates the next output.
  float* output(std::initializer_list<int64_t> shape, int type = float32) {
    size_t bytes = sizeof(float);
    for (int64_t size : shape) bytes *= size;
    TF_Tensor* tensor = TF_AllocateOutput(context_, outputs_++, type, shape.begin(), static_cast<int>(shape.size()), bytes, status_);
    if (tensor) tensors_.push_back(tensor);
    if (failed()) return nullptr;
    return static_cast<float*>(TF_TensorData(tensor));
  }

  bool require(bool holds, const char* message) {
    if (holds) return true;
    TF_SetStatus(status_, invalidArgument, message);
    return !failed();
  }

 private:
  const TF_Tensor* input(int index) {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_);
    if (tensor) tensors_.push_back(tensor);
    if (failed()) return nullptr;
    return tensor;
  }

  bool failed() {
    if (TF_GetCode(status_) == 0) return false;
    TF_OpKernelContext_Failure(context_, status_);
    return true;
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> tensors_;
  int outputs_ = 0;
};

const float* dataOf(const TF_Tensor* tensor) { return static_cast<const float*>(TF_TensorData(tensor)); }

int64_t sizeOf(const TF_Tensor* tensor) {
  int64_t size = 1;
  for (int i = 0; i < TF_NumDims(tensor); i++) size *= TF_Dim(tensor, i);
  return size;
}

bool isMatrix(const TF_Tensor* tensor) { return TF_NumDims(tensor) == 2; }

int32_t intOf(TF_OpKernelConstruction* construction, const char* name) {
  TF_Status* status = TF_NewStatus();
  int32_t value = 0;
  TF_OpKernelConstruction_GetAttrInt32(construction, name, &value, status);
  TF_DeleteStatus(status);
  return value;
}

float floatOf(TF_OpKernelConstruction* construction, const char* name) {
  TF_Status* status = TF_NewStatus();
  float value = 0;
  TF_OpKernelConstruction_GetAttrFloat(construction, name, &value, status);
  TF_DeleteStatus(status);
  return value;
}

}  // namespace
