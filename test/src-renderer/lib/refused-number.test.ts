import { expect, test } from 'vitest'
import { refusedNumber } from '../../../src-renderer/lib/refused-number.ts'

const field = (value: string, changes: object = {}) => ({
  value,
  min: '0',
  max: '64',
  step: '',
  required: false,
  validity: { badInput: false },
  ...changes,
})

test('a number out of its range, or no number, is refused with its value and what is allowed', () => {
  for (const value of ['', '0', '64']) expect(refusedNumber('Runs', field(value))).toBeNull()
  for (const value of ['-3', '65', '1.5'])
    expect(refusedNumber('Runs', field(value))).toBe(`Runs is ${value}; it must be a whole number from 0 to 64.`)
  expect(refusedNumber('Runs', field('', { validity: { badInput: true } }))).toMatch('Runs is no number;')
  expect(refusedNumber('Runs', field('', { required: true }))).toMatch('Runs is empty;')
  expect(refusedNumber('Memory', field('0', { min: '0.1', max: '', step: '0.1' }))).toBe(
    'Memory is 0; it must be a number of at least 0.1.',
  )
})
