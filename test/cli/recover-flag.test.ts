import { expect, test } from 'vitest'
import { recoveryAmount } from '#cli/flags/flag-values.ts'

test.each([
  ['none', 'none'],
  ['262144', { tokens: 262_144 }],
  ['256k', { tokens: 262_144 }],
  ['10min', { minutes: 10 }],
  ['0.5 min', { minutes: 0.5 }],
])('%s is an amount of recovery', (text, amount) => {
  expect(recoveryAmount(text, 'recover')).toEqual(amount)
})

test.each(['', '0', '-3', 'ten', '10 hours', '0min'])('"%s" is refused, with what is allowed', (text) => {
  expect(() => recoveryAmount(text, 'recover')).toThrow(`--recover is "${text}"; it must be none, minutes such as 10min (at most`)
})
