"""Folders in transformers: each line that comes in is a job, a folder and what to do with it; each gets a line that begins with ANSWER."""
import json
import os
import sys
import warnings

warnings.filterwarnings('ignore')

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)


def check(job):
    if job.get('tokenizes'):
        return {'ids': ids_of(job)}
    model, loaded = AutoModelForCausalLM.from_pretrained(
        job['folder'], dtype=torch.float32, trust_remote_code=job['trust'], output_loading_info=True, attn_implementation='eager', local_files_only=True
    )
    strange = [f'{kind}: {", ".join(sorted(map(str, loaded[kind]))[:3])}' for kind in ('missing_keys', 'unexpected_keys', 'mismatched_keys') if loaded[kind]]
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for index, window in enumerate(job['windows']):
            ids = torch.tensor([window])
            logits = model(ids).logits[0]
            if index == 0 and 'logits' in job:
                logits.numpy().astype(np.float32).tofile(job['logits'])
            total += torch.nn.functional.cross_entropy(logits[:-1].double(), ids[0, 1:], reduction='sum').item()
            count += len(window) - 1
        prompt = torch.tensor([job['prompt']])
        model.generation_config.eos_token_id = None
        answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=job['tokens'], do_sample=False, pad_token_id=0)
    result = {'perplexity': float(np.exp(total / count)), 'greedy': answer[0, prompt.shape[1] :].tolist(), 'strange': strange}
    if 'texts' in job:
        result['ids'] = ids_of(job)
    return result


def ids_of(job):
    tokenizer = AutoTokenizer.from_pretrained(job['folder'], local_files_only=True)
    return [tokenizer(text, add_special_tokens=False)['input_ids'] for text in job['texts']]


# Where code would have to be trusted, transformers asks at the terminal. It must find none.
jobs, sys.stdin = sys.stdin, open(os.devnull)
for line in jobs:
    try:
        answer = check(json.loads(line))
    except Exception as error:
        answer = {'error': f'{type(error).__name__}: {error}'.replace('\n', ' ')[:300]}
    # What a library left without an end of line must not hide the answer.
    print('\nANSWER', json.dumps(answer), flush=True)
