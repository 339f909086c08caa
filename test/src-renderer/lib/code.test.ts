import { describe, expect, test } from 'vitest'
import { isCodeModel, looksLikeCode, trimAnswer } from '../../../src-renderer/lib/code.ts'

describe('code', () => {
  test('is known by its lines, so that prose with a semicolon is none', () => {
    const python = 'def is_prime(n):\n    for d in range(2, n):\n        if n % d == 0:\n            return False'
    const begun = 'def area(width, height):\n    return'
    expect(['SELECT', begun, 'function f(a) {\n  return a;\n}', python].map(looksLikeCode)).toEqual([true, true, true, true])
    const documented = ['def lines(path):\n    """The lines of a file."""', '// Sums numbers.\nfunction sum(']
    expect(documented.map(looksLikeCode)).toEqual([true, true])
    const prose =
      'Import duties rose; so did prices.\nThe class of 1998 met again.\nI returned home.\nIt was late;\nall slept.\nThe end.\nOr not.'
    expect(['', 'Who is Albert Einstein?', prose].map(looksLikeCode)).toEqual([false, false, false])
  })

  test('in an answer keeps the indentation of its first line', () => {
    expect(trimAnswer('\n\n    if n == 1:\n        return True\n')).toBe('    if n == 1:\n        return True')
    expect([' Paris. ', '\n', '  \n '].map(trimAnswer)).toEqual(['Paris.', '', ''])
  })

  test('is what a model was made for by its name', () => {
    expect(['Qwen2.5-Coder-0.5B', 'starcoder2-3b', 'CodeLlama-7b'].map(isCodeModel)).toEqual([true, true, true])
    expect(['decoder-350m', 'encoder', 'SmolLM2-135M'].map(isCodeModel)).toEqual([false, false, false])
  })
})
