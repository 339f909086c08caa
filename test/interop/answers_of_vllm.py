"""Opens a folder in vLLM and answers as it does: the perplexity of windows of token ids, and a greedy answer.

    python answers_of_vllm.py JOB.json
"""
import json
import math
import sys


def main():
    from vllm import LLM, SamplingParams

    with open(sys.argv[1]) as file:
        job = json.load(file)
    model = LLM(
        model=job['folder'],
        skip_tokenizer_init=True,
        trust_remote_code=job['trust'],
        dtype='float32',
        max_model_len=job['length'],
        enforce_eager=True,
    )
    prompts = [{'prompt_token_ids': window} for window in job['windows']]
    read = model.generate(prompts, SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False))
    losses = [
        -found[token].logprob
        for answer, window in zip(read, job['windows'])
        for token, found in zip(window[1:], answer.prompt_logprobs[1:])
    ]
    asked = SamplingParams(temperature=0, max_tokens=job['tokens'], ignore_eos=True, detokenize=False)
    written = model.generate([{'prompt_token_ids': job['prompt']}], asked)[0].outputs[0].token_ids
    print('ANSWER ' + json.dumps({'perplexity': math.exp(sum(losses) / len(losses)), 'greedy': list(written)}))


if __name__ == '__main__':
    main()
