import { expect, test } from 'vitest'
import { cellText, formatNumber, probabilityText, withError } from '#contract/comparison/cell-text.ts'
import { subjectTitle } from '#contract/comparison/measure-columns.ts'

test('numbers read well at every size', () => {
  expect([0, 7, 2048, -12345678, -0.5, 10.174, 12.34567, 123.456, 1234.56, 12345.678, 0.00012, 3.2e9, 1e12].map(formatNumber)).toEqual([
    '0',
    '7',
    '2048',
    '−12,345,678',
    '−0.500',
    '10.17',
    '12.35',
    '123.5',
    '1235',
    '12,346',
    '1.20e−4',
    '3,200,000,000',
    '1.000e+12',
  ])
})

test('a number that rounds up to the next power of ten keeps its digits', () => {
  expect([0.0123, 0.00123, 0.09996, 0.99996, 99.9996, 999.97, 9999.7].map(formatNumber)).toEqual([
    '0.0123',
    '0.00123',
    '0.100',
    '1.000',
    '100.0',
    '1000',
    '10,000',
  ])
})

test('an error has two digits, and a value as many as its error allows', () => {
  const cases = [
    [12.3456, 0.5],
    [12.3456, 0.0996],
    [985.31, 120.4],
    [-985.31, 3.26],
    [12345.6, 1234],
    [12.3456, 0],
  ] as const
  expect(cases.map(([value, error]) => Object.values(withError(value, error)).join(' ± '))).toEqual([
    '12.35 ± 0.50',
    '12.35 ± 0.10',
    '990 ± 120',
    '−985.3 ± 3.3',
    '12,300 ± 1200',
    '12.35 ± 0',
  ])
  expect(cellText({ value: 12.3456, spread: 0.5, note: 'at 33.3 %' })).toBe('12.35 ± 0.50 (at 33.3 %)')
})

test('parameters that each token meets are named active, not used by one token', () => {
  expect(subjectTitle('met by one token')).toBe('active for each token')
})

test('p values have three places, and none is smaller than 0.001', () => {
  expect([1, 0.0312, 0.001, 0.000_99, 7.53e-15, 0].map(probabilityText)).toEqual([
    '1.000',
    '0.031',
    '0.001',
    '< 0.001',
    '< 0.001',
    '< 0.001',
  ])
})
