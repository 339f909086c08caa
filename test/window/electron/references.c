/* References to any value, as Node-API has them since version 10, on one that only has references to objects, functions and symbols. What
   version 9 refuses is put in an array of one element that carries a tag. `install.mjs` makes better-sqlite3 call these two functions. */
#include <stdbool.h>
#include <stdint.h>

typedef int status;
typedef void *handle;
typedef struct {
  uint64_t halves[2];
} tag;

status napi_typeof(handle env, handle value, int *type);
status napi_create_array_with_length(handle env, uintptr_t length, handle *array);
status napi_set_element(handle env, handle array, uint32_t index, handle value);
status napi_get_element(handle env, handle array, uint32_t index, handle *value);
status napi_type_tag_object(handle env, handle object, const tag *mark);
status napi_check_object_type_tag(handle env, handle object, const tag *mark, bool *has);
status napi_create_reference(handle env, handle value, uint32_t count, handle *reference);
status napi_get_reference_value(handle env, handle reference, handle *value);

enum { SYMBOL = 5, OBJECT = 6, FUNCTION = 7 };
static const tag boxed = {{0x1f0e5c7a2b944d36, 0x8d1a63f7c05e92b4}};

status nap9_create_reference(handle env, handle value, uint32_t count, handle *reference) {
  int type;
  status problem = napi_typeof(env, value, &type);
  if (problem) return problem;
  if (type == SYMBOL || type == OBJECT || type == FUNCTION) return napi_create_reference(env, value, count, reference);
  handle box;
  if ((problem = napi_create_array_with_length(env, 1, &box)) || (problem = napi_set_element(env, box, 0, value)) ||
      (problem = napi_type_tag_object(env, box, &boxed)))
    return problem;
  return napi_create_reference(env, box, count, reference);
}

status nap9_get_reference_value(handle env, handle reference, handle *value) {
  int type;
  bool is_box = false;
  status problem = napi_get_reference_value(env, reference, value);
  if (problem || !*value) return problem;
  if ((problem = napi_typeof(env, *value, &type)) || type != OBJECT) return problem;
  if ((problem = napi_check_object_type_tag(env, *value, &boxed, &is_box)) || !is_box) return problem;
  return napi_get_element(env, *value, 0, value);
}

/* Node loads this library as an addon. */
handle napi_register_module_v1(handle env, handle exports) { return exports; }
