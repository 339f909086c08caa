import { createRequire } from 'node:module'
import { EspalierError } from '#contract/errors.ts'
import { loadDevices, loadVulkan } from '#engine/backend/ggml/ggml-devices.ts'
import { bind, type LibraryFunction, openLibrary } from '#engine/backend/ggml/ggml-library.ts'

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')

const fields = (type: string, names: string): Record<string, string> =>
  Object.fromEntries(names.split(' ').map((name) => [name, type] as const))

/** The structures of llama.h, field by field, in the release that setup installs. */
koffi.struct('llama_model_params', {
  ...fields('void *', 'devices tensor_buft_overrides'),
  ...fields('int32_t', 'n_gpu_layers split_mode load_mode lazy_mode main_gpu'),
  ...fields('void *', 'tensor_split progress_callback progress_callback_user_data kv_overrides'),
  ...fields('bool', 'vocab_only check_tensors use_extra_bufts no_host no_alloc load_mtp'),
})
koffi.struct('llama_context_params', {
  ...fields('uint32_t', 'n_ctx n_batch n_ubatch n_seq_max n_rs_seq n_outputs_max n_outputs_max_per_seq'),
  ...fields('int32_t', 'n_threads n_threads_batch ctx_type rope_scaling_type pooling_type attention_type flash_attn_type'),
  ...fields('float', 'rope_freq_base rope_freq_scale yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow'),
  ...fields('uint32_t', 'yarn_orig_ctx'),
  ...fields('float', 'defrag_thold'),
  ...fields('void *', 'cb_eval cb_eval_user_data'),
  ...fields('int32_t', 'type_k type_v'),
  ...fields('void *', 'abort_callback abort_callback_data'),
  ...fields('bool', 'embeddings offload_kqv no_perf op_offload swa_full kv_unified'),
  ...fields('void *', 'samplers'),
  ...fields('size_t', 'n_samplers'),
  ...fields('void *', 'ctx_other'),
})
koffi.struct('llama_model_quantize_params', {
  ...fields('int32_t', 'nthread ftype output_tensor_type token_embedding_type'),
  ...fields('bool', 'allow_requantize quantize_output_tensor only_copy pure keep_split dry_run'),
  ...fields('void *', 'imatrix kv_overrides tt_overrides prune_layers'),
  ...fields('size_t', 'max_buf_size'),
})
koffi.struct('llama_batch', {
  n_tokens: 'int32_t',
  token: 'const int32_t *',
  ...fields('void *', 'embd pos n_seq_id seq_id'),
  logits: 'const int8_t *',
})

const declarations = {
  modelDefaults: 'llama_model_params llama_model_default_params()',
  contextDefaults: 'llama_context_params llama_context_default_params()',
  quantizeDefaults: 'llama_model_quantize_params llama_model_quantize_default_params()',
  load: 'void *llama_model_load_from_file(const char *path, llama_model_params params)',
  start: 'void *llama_init_from_model(void *model, llama_context_params params)',
  freeModel: 'void llama_model_free(void *model)',
  freeContext: 'void llama_free(void *context)',
  vocabulary: 'void *llama_model_get_vocab(void *model)',
  vocabularySize: 'int32_t llama_vocab_n_tokens(void *vocabulary)',
  trainedContext: 'int32_t llama_model_n_ctx_train(void *model)',
  chatTemplate: 'const char *llama_model_chat_template(void *model, const char *name)',
  tokenize:
    'int32_t llama_tokenize(void *vocabulary, const char *text, int32_t bytes, _Out_ int32_t *ids, int32_t room, bool special, bool parse)',
  decode: 'int32_t llama_decode(void *context, llama_batch batch)',
  logits: 'void *llama_get_logits_ith(void *context, int32_t row)',
  memory: 'void *llama_get_memory(void *context)',
  clear: 'void llama_memory_clear(void *memory, bool data)',
  sequenceBytes: 'size_t llama_state_seq_get_size(void *context, int32_t sequence)',
  quantize: 'uint32_t llama_model_quantize(const char *from, const char *to, llama_model_quantize_params *params)',
} as const

export type LlamaLibrary = Record<keyof typeof declarations, LibraryFunction>

/** Parameters that Espalier sets; the others keep llama.cpp's defaults. */
export type Parameters = Record<string, unknown>

let opened: LlamaLibrary | undefined

/** Opens llama.cpp's own library. Throws `not-found` if setup has not installed it. */
export function openLlama(): LlamaLibrary {
  if (opened) return opened
  loadDevices()
  const library = bind(openLibrary('llama.cpp'), declarations)
  const [model, context, quantize] = [library.modelDefaults(), library.contextDefaults(), library.quantizeDefaults()] as Parameters[]
  const found = [model?.n_gpu_layers, model?.use_extra_bufts, context?.n_batch, context?.type_v, context?.kv_unified, quantize?.ftype]
  // If the structures were those of another release, these fields would have other values.
  if (found.join() !== '-1,true,2048,1,false,7')
    throw new EspalierError('internal', `llama.cpp's parameters do not have the expected layout: ${found.join(', ')}. Run setup again.`)
  listen()
  opened = library
  return library
}

const problems: string[] = []

/** Returns llama.cpp's last errors, and clears them. */
export function takeProblems(): string {
  return problems.splice(0).join('').trim().slice(-500)
}

/** Keeps llama.cpp's errors, which explain why a file does not load. */
function listen(): void {
  const type = koffi.proto('void espalier_llama_log(int level, const char *text, void *data)')
  const errorLevel = 4
  const keep = koffi.register((level: number, text: string) => {
    if (level === errorLevel) problems.push(text)
  }, koffi.pointer(type))
  openLibrary('llama.cpp').func('llama_log_set', 'void', [koffi.pointer(type), 'void *'])(keep, null)
}

/** The floats at an address inside the library. They are not copied, so they are valid only until the library's next call. */
export function floatsAt(address: unknown, count: number): Float32Array {
  return new Float32Array(koffi.view(address, 4 * count))
}

/**
 * The list of devices for `llama_model_params`: the device with this name, or no device for the processor. Throws `usage` for an unknown
 * name.
 */
export function deviceList(name: string): unknown {
  const list = koffi.alloc('void *', 2) as unknown
  koffi.encode(list, 'void *', [name === 'CPU' ? null : findDevice(name), null], 2)
  return list
}

function findDevice(name: string): unknown {
  const missing = loadVulkan('usual')
  const device: unknown = openLibrary('ggml').func('void *ggml_backend_dev_by_name(const char *name)')(name)
  if (device !== null) return device
  const why = missing && name.startsWith('Vulkan') ? ` ${missing}` : ''
  throw new EspalierError('usage', `llama.cpp has no device "${name}".${why} \`espalier devices\` lists the devices of this machine.`)
}
