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

test('the type that is timed, weighed or measured is the type that is saved', () => {
  const saving = (...words: string[]) => savingOf(parseFlags(['--model=sample', '--pruning_method=2ssp', '--save=out', ...words]))
  for (const words of [
    ['--fit=6GB'],
    ['--fit=30tok/s'],
    ['--sparsity=0.5'],
    ['--fit=6GB', '--format=gguf'],
    ['--fit=6GB', '--gguf_type=Q8_0'],
  ]) {
    expect(() => check('--save=out', '--weights=Q8_0', ...words), words.join(' ')).not.toThrow()
    expect(saving('--weights=Q8_0', ...words), words.join(' ')).toMatchObject({ formats: ['gguf'], ggufTypes: ['Q8_0'] })
  }
  expect(saving('--fit=30tok/s').formats).toEqual(['gguf'])
  expect(saving('--sparsity=0.5', '--weights=computed').formats).toEqual(['exact'])
})

test('a saved type other than the measured one is refused', () => {
  const refused: [string[], string][] = [
    [['--fit=6GB', '--weights=Q8_0', '--gguf_type=F16'], '--gguf_type=F16 saves another'],
    [['--sparsity=0.5', '--weights=Q8_0', '--save=out', '--gguf_type=F16'], '--gguf_type=F16 saves another'],
    [['--sparsity=0.5', '--weights=Q8_0', '--save=out', '--format=gguf', '--gguf_type=Q8_0,F16'], '--gguf_type=Q8_0,F16 saves another'],
    [['--sparsity=0.5', '--weights=Q8_0', '--save=out', '--format=exact'], '--format=exact saves another'],
    [['--sparsity=0.5', '--weights=Q8_0', '--save=out', '--format=gguf,stock'], '--format=gguf,stock saves another'],
    [['--fit=6GB', '--weights=Q8_0', '--format=stock'], '--format=stock saves another'],
    [['--fit=6GB', '--gguf_type=Q8_0,F16', '--save=out'], 'give one --gguf_type'],
    [['--fit=6GB', '--weights=Q8_0,F16', '--gguf_type=Q4_0'], 'both set the type that --fit weighs'],
    [['--fit=30tok/s', '--save=out', '--format=gguf', '--gguf_type=Q4_K_M'], 'does not apply to a speed; give --weights=Q4_K_M instead'],
  ]
  for (const [words, says] of refused) expect(() => check(...words), words.join(' ')).toThrow(says)
})

test('a share of experts is an amount, so no other one is needed or allowed beside it', () => {
  const reap = (...words: string[]) => checkFlags(parseFlags(['--model=sample', '--pruning_method=reap', ...words]))
  for (const words of [['--option', 'share=0.25'], ['--expert_share=0.25']]) {
    expect(() => reap(...words)).not.toThrow()
    expect(() => reap(...words, '--sparsity=0.25')).toThrow('all set the amount; give one of them')
  }
  expect(() => reap('--expert_share=1.5')).toThrow('--expert_share is "1.5"; it must be a number above 0, at most 1')
  // Other methods may have an option of that name.
  expect(() => check('--option', 'share=0.25')).toThrow('needs an amount')
})

test('the rows that a vocabulary keeps are an amount, of that method alone', () => {
  const trim = (...words: string[]) => checkFlags(parseFlags(['--model=sample', '--pruning_method=vocabulary', ...words]))
  for (const option of ['rows=1000', 'share=0.5', 'coverage=0.999']) {
    expect(() => trim('--option', option)).not.toThrow()
    expect(() => trim('--option', option, '--sparsity=0.1')).toThrow('Give no other amount with them')
    expect(() => check('--option', option)).toThrow('needs an amount')
  }
  expect(() => trim('--option', 'prior=0')).toThrow('needs an amount')
})

test('absurd budgets and recoveries are refused in words, with what is allowed', () => {
  const many = '9'.repeat(400)
  for (const fit of [
    '99999999999999999999999GB',
    `${many}tok/s`,
    `${many}GB`,
    '0.0000000001tok/s',
    '1ms@0',
    `1ms@${many}`,
    '-1GB',
    '1e3GB',
  ])
    expect(() => parseFlags([`--fit=${fit}`]), fit).toThrow('it must be a file size such as 6GB, 1.5GiB or MIXED:6GB, or a speed such as')
  for (const recover of [many, '99999999999999999999', '100001min', `${many}min`, '0min', '0.0001k', '-5', '1e5'])
    expect(() => parseFlags([`--recover=${recover}`]), recover).toThrow(
      /it must be none, minutes such as 10min \(at most 100000\), or tokens/,
    )
  expect(parseFlags(['--recover=100000min']).recover).toEqual({ minutes: 100_000 })
})

test('fewer tokens come before another method', () => {
  expect(() => check('--sparsity=0.25', '--vocabulary=50%')).not.toThrow()
  expect(() => checkFlags(parseFlags(['--model=sample', '--dense', '--vocabulary=32000']))).not.toThrow()
  const itself = ['--model=sample', '--pruning_method=vocabulary', '--option=rows=900', '--vocabulary=900']
  expect(() => checkFlags(parseFlags(itself))).toThrow('Give --option rows=32000 to the method vocabulary')
  expect(() => parseFlags(['--model=sample', '--dense', '--vocabulary=32k'])).toThrow('a number of tokens such as 32000')
})
