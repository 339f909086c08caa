import { expect, test } from 'vitest'
import { findDecimals, formatConfig } from '#engine/checkpoint/json.ts'

test('decimals that are whole stay decimals, at any depth and in lists, and whole numbers stay whole', () => {
  const text = '{"a": 8.0, "b": 8, "c": {"d": [1.0, 2, 1e3], "8.0": "9.0"}, "e": 0.5, "f": -3.0}'
  const written = formatConfig(JSON.parse(text) as Record<string, unknown>, findDecimals(text))
  expect(written.replace(/\s+/g, '')).toBe('{"a":8.0,"b":8,"c":{"d":[1.0,2,1000.0],"8.0":"9.0"},"e":0.5,"f":-3.0}')
})

test('a changed value is written exactly, and texts that look like numbers or escapes stay texts', () => {
  const text = String.raw`{"n": 2.0, "t": "a \"1.0\" b", "u": "\u0000 decimal 3"}`
  const written = formatConfig({ ...(JSON.parse(text) as object), n: 'two' }, findDecimals(text))
  expect(JSON.parse(written)).toEqual({ n: 'two', t: 'a "1.0" b', u: '\u0000 decimal 3' })
})
