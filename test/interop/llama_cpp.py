"""llama.cpp through its own C library, as the npm packages of node-llama-cpp carry it prebuilt. With a file it does that job; without
one, each line that comes in is a job. A file that llama.cpp cannot run may end the process:

    python llama_cpp.py LIBRARIES [JOB.json]

A job names a gguf file and what to do with it; the answer is a line that begins with ANSWER. Keys and values are kept in float32 and attention is
computed the plain way, so that what differs comes from the file.
"""
import ctypes as c
import glob
import json
import os
import sys
import time

import numpy as np

P = c.c_void_p


class ModelParams(c.Structure):
    _fields_ = [(name, P) for name in ('devices', 'buft_overrides')] + [
        (name, c.c_int32) for name in ('n_gpu_layers', 'split_mode', 'load_mode', 'lazy_mode', 'main_gpu')
    ] + [(name, P) for name in ('tensor_split', 'progress', 'progress_data', 'kv_overrides')] + [
        (name, c.c_bool) for name in ('vocab_only', 'check_tensors', 'use_extra_bufts', 'no_host', 'no_alloc', 'load_mtp')
    ]


class ContextParams(c.Structure):
    _fields_ = [(name, c.c_uint32) for name in ('n_ctx', 'n_batch', 'n_ubatch', 'n_seq_max', 'n_rs_seq', 'n_outputs_max', 'n_outputs_max_per_seq')] + [
        (name, c.c_int32)
        for name in ('n_threads', 'n_threads_batch', 'ctx_type', 'rope_scaling_type', 'pooling_type', 'attention_type', 'flash_attn_type')
    ] + [
        (name, c.c_float)
        for name in ('rope_freq_base', 'rope_freq_scale', 'yarn_ext_factor', 'yarn_attn_factor', 'yarn_beta_fast', 'yarn_beta_slow')
    ] + [('yarn_orig_ctx', c.c_uint32), ('defrag_thold', c.c_float), ('cb_eval', P), ('cb_eval_data', P), ('type_k', c.c_int32), ('type_v', c.c_int32)] + [
        (name, P) for name in ('abort_callback', 'abort_data')
    ] + [(name, c.c_bool) for name in ('embeddings', 'offload_kqv', 'no_perf', 'op_offload', 'swa_full', 'kv_unified')] + [
        ('samplers', P), ('n_samplers', c.c_size_t), ('ctx_other', P)
    ]


class QuantizeParams(c.Structure):
    _fields_ = [(name, c.c_int32) for name in ('nthread', 'ftype', 'output_type', 'embedding_type')] + [
        (name, c.c_bool) for name in ('allow_requantize', 'quantize_output', 'only_copy', 'pure', 'keep_split', 'dry_run')
    ] + [(name, P) for name in ('imatrix', 'kv_overrides', 'tt_overrides', 'prune_layers')] + [('max_buf_size', c.c_size_t)]


class Batch(c.Structure):
    _fields_ = [('n_tokens', c.c_int32)] + [(name, P) for name in ('token', 'embd', 'pos', 'n_seq_id', 'seq_id', 'logits')]


LOG = c.CFUNCTYPE(None, c.c_int, c.c_char_p, P)


def one(folder, pattern):
    found = sorted(glob.glob(os.path.join(folder, pattern)))
    if not found:
        raise SystemExit(f'{folder} has no {pattern}')
    return found[0]


class Library:
    def __init__(self, folder):
        load = lambda pattern: c.CDLL(one(folder, pattern), mode=c.RTLD_GLOBAL)
        load('libggml-base*.*')
        ggml = load('libggml.*')
        self.lib = lib = load('libllama.*')
        signatures = {
            'llama_model_default_params': (ModelParams, []),
            'llama_context_default_params': (ContextParams, []),
            'llama_model_quantize_default_params': (QuantizeParams, []),
            'llama_model_load_from_file': (P, [c.c_char_p, ModelParams]),
            'llama_init_from_model': (P, [P, ContextParams]),
            'llama_model_get_vocab': (P, [P]),
            'llama_vocab_n_tokens': (c.c_int32, [P]),
            'llama_tokenize': (c.c_int32, [P, c.c_char_p, c.c_int32, P, c.c_int32, c.c_bool, c.c_bool]),
            'llama_batch_init': (Batch, [c.c_int32, c.c_int32, c.c_int32]),
            'llama_batch_free': (None, [Batch]),
            'llama_free': (None, [P]),
            'llama_model_free': (None, [P]),
            'llama_decode': (c.c_int32, [P, Batch]),
            'llama_get_logits_ith': (c.POINTER(c.c_float), [P, c.c_int32]),
            'llama_get_memory': (P, [P]),
            'llama_memory_clear': (None, [P, c.c_bool]),
            'llama_model_quantize': (c.c_uint32, [c.c_char_p, c.c_char_p, c.POINTER(QuantizeParams)]),
            'llama_model_chat_template': (c.c_char_p, [P, c.c_char_p]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
        self.quiet = LOG(lambda level, text, _: sys.stderr.write(text.decode(errors='replace')) if level >= 3 else None)
        lib.llama_log_set.argtypes = [LOG, P]
        lib.llama_log_set(self.quiet, None)
        ggml.ggml_backend_load_all_from_path.argtypes = [c.c_char_p]
        ggml.ggml_backend_load_all_from_path(folder.encode())
        # The structures above are those of one release: another one's defaults would stand in other places.
        model, context = lib.llama_model_default_params(), lib.llama_context_default_params()
        if (model.n_gpu_layers, context.n_ctx, context.n_batch, context.n_ubatch, context.type_k) != (-1, 512, 2048, 512, 1):
            raise SystemExit('this release of llama.cpp has other structures than llama_cpp.py describes')


class Model:
    def __init__(self, library, file, threads, length):
        self.lib = lib = library.lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = False
        self.model = lib.llama_model_load_from_file(file.encode(), params)
        if not self.model:
            raise SystemExit(f'llama.cpp does not load {file}')
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)
        context = lib.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = length
        context.n_threads = context.n_threads_batch = threads
        context.flash_attn_type = 0
        context.type_k = context.type_v = 0
        self.context = lib.llama_init_from_model(self.model, context)
        if not self.context:
            raise SystemExit(f'llama.cpp makes no context for {file}')
        self.batch = lib.llama_batch_init(length, 0, 1)

    def close(self):
        self.lib.llama_batch_free(self.batch)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)

    def decode(self, ids, start, every):
        """Logits [T, V] behind each of `ids`, or [1, V] behind the last."""
        batch, count = self.batch, len(ids)
        array = lambda pointer, kind: c.cast(pointer, c.POINTER(kind))
        sequences = array(batch.seq_id, c.POINTER(c.c_int32))
        for i, token in enumerate(ids):
            array(batch.token, c.c_int32)[i] = token
            array(batch.pos, c.c_int32)[i] = start + i
            array(batch.n_seq_id, c.c_int32)[i] = 1
            sequences[i][0] = 0
            array(batch.logits, c.c_int8)[i] = 1 if every or i == count - 1 else 0
        batch.n_tokens = count
        code = self.lib.llama_decode(self.context, batch)
        if code != 0:
            raise SystemExit(f'llama.cpp decodes with code {code}')
        rows = range(count) if every else [count - 1]
        return np.stack([np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, i), shape=(self.size,)).copy() for i in rows])

    def tokenize(self, text):
        data = text.encode()
        ids = (c.c_int32 * (len(data) + 8))()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, True)
        return list(ids[:count])


def losses(logits, window):
    """Negative log likelihoods in double precision of the tokens behind the first."""
    rows = logits[:-1].astype(np.float64)
    top = rows.max(axis=1, keepdims=True)
    return np.log(np.exp(rows - top).sum(axis=1)) + top[:, 0] - rows[np.arange(len(rows)), window[1:]]


def evaluate(library, job):
    windows = job.get('windows', [])
    model = Model(library, job['file'], job.get('threads', 1), max([len(w) for w in windows] + [job.get('context', 64)]))
    answer = {}
    total, sums = 0, []
    for index, window in enumerate(windows):
        model.clear()
        logits = model.decode(window, 0, True)
        if index == 0 and 'logits' in job:
            logits.astype(np.float32).tofile(job['logits'])
        sums.append(losses(logits, window).sum())
        total += len(window) - 1
    if windows:
        answer['perplexity'] = float(np.exp(sum(sums) / total))
    if 'prompt' in job:
        model.clear()
        ids = list(job['prompt'])
        logits = model.decode(ids, 0, False)
        found = []
        began = time.perf_counter()
        for _ in range(job['tokens']):
            found.append(int(logits[0].argmax()))
            logits = model.decode(found[-1:], len(ids) + len(found) - 1, False)
        answer['greedy'] = found
        answer['tokens_per_second'] = job['tokens'] / (time.perf_counter() - began)
    if 'texts' in job:
        answer['ids'] = [model.tokenize(text) for text in job['texts']]
    template = library.lib.llama_model_chat_template(model.model, None)
    if template:
        answer['template'] = template.decode()
    model.close()
    return answer


def quantize(library, job):
    params = library.lib.llama_model_quantize_default_params()
    params.ftype = job['ftype']
    params.nthread = job.get('threads', 1)
    code = library.lib.llama_model_quantize(job['file'].encode(), job['quantize'].encode(), c.byref(params))
    if code != 0:
        raise SystemExit(f'llama.cpp quantises with code {code}')
    return {'bytes': os.path.getsize(job['quantize'])}


def perform(library, job):
    return quantize(library, job) if 'quantize' in job else evaluate(library, job)


if __name__ == '__main__':
    library = Library(sys.argv[1])
    if len(sys.argv) > 2:
        with open(sys.argv[2]) as file:
            print('ANSWER', json.dumps(perform(library, json.load(file))), flush=True)
    for line in sys.stdin if len(sys.argv) == 2 else []:
        try:
            answer = perform(library, json.loads(line))
        except (Exception, SystemExit) as error:
            answer = {'error': str(error)[:300]}
        print('ANSWER', json.dumps(answer), flush=True)
