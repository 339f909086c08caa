import { gpt2Pattern, llama3Pattern, qwen2Pattern } from '#engine/tokenizer/patterns.ts'

type Step = Readonly<Record<string, unknown>>

/** llama.cpp's name (`tokenizer.ggml.pre`) for how a byte-level tokenizer splits text before it merges bytes; undefined if it has none. */
export function nameSplit(preTokenizer: unknown, ignoresMerges: boolean): string | undefined {
  const word = stepsOf(preTokenizer).map(describeStep).filter(Boolean).join(' ')
  const name = Object.hasOwn(names, word) ? names[word] : undefined
  return name === 'dbrx' && ignoresMerges ? 'llama-bpe' : name
}

const names: Readonly<Record<string, string>> = {
  gpt2: 'gpt-2',
  'digits gpt2': 'smollm',
  llama3: 'dbrx',
  qwen2: 'qwen2',
  o200k: 'gpt-4o',
}

function stepsOf(preTokenizer: unknown): Step[] {
  if (typeof preTokenizer !== 'object' || preTokenizer === null) return []
  const { type, pretokenizers } = preTokenizer as Step
  return type === 'Sequence' && Array.isArray(pretokenizers) ? pretokenizers.flatMap(stepsOf) : [preTokenizer as Step]
}

function describeStep(step: Step): string {
  if (step.type === 'ByteLevel') return step.add_prefix_space === true ? 'prefix' : step.use_regex === false ? '' : 'gpt2'
  if (step.type === 'Digits') return step.individual_digits === true ? 'digits' : 'numbers'
  const pattern = step.type === 'Split' ? (step.pattern as Step | undefined)?.Regex : undefined
  if (typeof pattern !== 'string' || step.invert === true || step.behavior !== 'Isolated') return String(step.type)
  if (pattern === gpt2Pattern) return 'gpt2'
  if (pattern === llama3Pattern) return 'llama3'
  if (pattern === qwen2Pattern) return 'qwen2'
  // GPT-4o's pattern, in which a word ends where an upper-case letter follows a lower-case one.
  return pattern.includes(String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`) && pattern.includes(String.raw`\p{N}{1,3}`) ? 'o200k' : 'unknown'
}
