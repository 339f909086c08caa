import { expect, test } from 'vitest'
import { checkFlags } from '#cli/flags/check-flags.ts'
import { parseFlags } from '#cli/flags/flags.ts'
import { savingOf } from '#cli/prune.ts'

const check = (...words: string[]) => checkFlags(parseFlags(['--model=sample', '--pruning_method=2ssp', ...words]))

test('a speed takes the type of --weights, so --gguf_type alone is refused', () => {
  for (const fit of ['30tok/s', '200ms@2048', '6GB,30tok/s'])
    expect(() => check(`--fit=${fit}`, '--gguf_type=Q4_K_M')).toThrow('does not apply to a speed; give --weights=Q4_K_M instead')
  expect(() => check('--fit=30tok/s', '--weights=Q4_K_M')).not.toThrow()
  expect(() => check('--fit=6GB', '--gguf_type=Q4_K_M')).not.toThrow()
})

test('without --format, what fits a budget of bytes is saved as the GGUF file that it was fitted for', () => {
  const saving = (...words: string[]) => savingOf(parseFlags(['--model=sample', '--pruning_method=2ssp', '--save=out', ...words]))
  expect(saving('--fit=6GB', '--gguf_type=Q4_K_M')).toMatchObject({ formats: ['gguf'], ggufTypes: ['Q4_K_M'] })
  expect(saving('--sparsity=0.5').formats).toEqual(['exact'])
  expect(saving('--fit=6GB', '--format=stock').formats).toEqual(['stock'])
})

test('a saved file has a type of its own beside a speed, if it is a GGUF file', () => {
  expect(() => check('--fit=30tok/s', '--save=out', '--format=gguf', '--gguf_type=Q4_K_M')).not.toThrow()
  expect(() => check('--fit=30tok/s', '--save=out', '--gguf_type=Q4_K_M')).toThrow('does not apply to a speed')
})
