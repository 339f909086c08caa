import { expect, test } from 'vitest'
import * as format from '../../../src-renderer/lib/format.ts'

test('counts, bytes and times are as short as a table needs', () => {
  expect(format.formatCount(2_755_712)).toBe('2.76 M')
  expect(format.formatCount(9999)).toBe('9,999')
  expect(format.formatBytes(5_523_256)).toBe('5.52 MB')
  expect(format.formatBytes(999)).toBe('999 B')
  expect(format.formatSeconds(0.747)).toBe('747 ms')
  expect(format.formatSeconds(59.7)).toBe('1 min 00 s')
  expect(format.formatSeconds(3725)).toBe('1 h 02 min')
})

test('shares keep the digit that distinguishes 37.5 from 37', () => {
  expect(format.formatShare(0.375)).toBe('37.5 %')
  expect(format.formatShare(0.5)).toBe('50 %')
})

test('values show three or four figures whatever their size', () => {
  expect([0, 1.5, 15.957, 0.04321, 999.97, 123.4567, 45_678, 2e-5].map(format.formatValue)).toEqual([
    '0',
    '1.500',
    '15.96',
    '0.0432',
    '1000',
    '123.5',
    '45,678',
    '2.00e−5',
  ])
  expect(format.formatValue(Number.POSITIVE_INFINITY)).toBe('∞')
})

test('ticks lose the zeros that values keep', () => {
  expect([40, 26.5, 0.2, 1000, 0.01, 1e-4].map(format.formatTick)).toEqual(['40', '26.5', '0.2', '1000', '0.01', '1e−4'])
})

test('a difference always carries a sign', () => {
  expect(format.formatEstimate(0.65012, 0.0326, 's')).toEqual({ value: '650', error: '33 ms' })
  expect(format.formatEstimate(0.4567, 0.0123, 'share')).toEqual({ value: '45.7', error: '1.2 %' })
  expect(format.formatDelta(1.5)).toBe('+1.500')
  expect(format.formatDelta(-2_000_000, 'bytes')).toBe('−2 MB')
  expect(format.formatDelta(0)).toBe('±0')
})

test('moments far back become dates', () => {
  const now = Date.UTC(2026, 5, 15, 12)
  expect(format.formatAgo(now - 10_000, now)).toBe('just now')
  expect(format.formatAgo(now - 3 * 3600_000, now)).toBe('3 h ago')
  expect(format.formatAgo(Date.UTC(2026, 0, 2, 12), now)).toBe('2026-01-02')
})

test('a moment that lies ahead because the clock was set back is a date, not just now', () => {
  const now = new Date(2026, 5, 15, 12).getTime()
  expect(format.formatAgo(now + 30_000, now)).toBe('just now')
  expect(format.formatAgo(now + 86_400_000, now)).toBe('2026-06-16')
})

test('only none and all are 0 % and 100 %', () => {
  expect([0, 1e-7, 0.0004, 0.0005, 0.959].map(format.formatShare)).toEqual(['0 %', '< 0.01 %', '0.04 %', '0.1 %', '95.9 %'])
  expect([0.9994, 0.9997, 0.99999, 1 - 1e-12, 1].map(format.formatShare)).toEqual(['99.9 %', '99.97 %', '> 99.99 %', '100 %', '100 %'])
})

test('no line ends between a number and its percent sign', () => {
  expect(format.holdPercents('2SSP 50 %, ShortGPT 25 %').split(' ')).toEqual(['2SSP', '50\u00a0%,', 'ShortGPT', '25\u00a0%'])
  expect(format.holdPercents('2SSP 50 %, seed 2').split(' ')).toEqual(['2SSP', '50\u00a0%,', 'seed\u00a02'])
})

test.each([
  [0.1, 0.4, 0.9, 'under 1 s'],
  [38, 41, 44, 'about 41 s'],
  [20, 40, 80, '20 to 80 s'],
  [0.5, 1, 2, '0.5 to 2 s'],
  [3.24, 6, 11.2, '3.2 to 11 s'],
  [24, 60, 190, '24 s to 3.2 min'],
  [1140, 2000, 4500, '19 to 75 min'],
  [6900, 12_000, 27_600, '1.9 to 7.7 h'],
  [5400, 20_000, 90_000, '1.5 to 25 h'],
])('a time from %d to %d to %d seconds fits a line: %s', (low, likely, high, text) => {
  expect(format.formatSecondsRange({ low, likely, high })).toBe(text)
})
