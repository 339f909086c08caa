import { homedir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hidePlaces } from '#services/hide-places.ts'

test('files and folders are named without what leads to them, in commands and sentences too', () => {
  const model = '/home/ann lee/models/tiny'
  const document = {
    request: { model, calibration: { source: '/home/ann lee/texts/own.txt', windows: 4 }, measures: [{ folder: 'C:\\tasks\\arc' }] },
    remarks: ['/home/ann lee/texts/own.txt gives 3 windows.', `${model} and ${model}/config.json`, 'C:\\tasks\\arc is used'],
    seed: 0,
    plan: null,
  }
  const hidden = hidePlaces(document)
  expect(hidden.request).toEqual({ model: 'tiny', calibration: { source: 'own.txt', windows: 4 }, measures: [{ folder: 'arc' }] })
  expect(hidden.remarks).toEqual(['own.txt gives 3 windows.', 'tiny and tiny/config.json', 'arc is used'])
  expect([hidden.seed, hidden.plan]).toEqual([0, null])
})

test('named texts and answers that begin with a slash stay as they are, and the home folder never shows', () => {
  const document = { source: 'wikitext2', answers: [{ text: '/help me' }], note: `kept in ${join(homedir(), 'cache')}` }
  expect(hidePlaces(document)).toEqual({
    ...document,
    note: `kept in ${homedir().length > 1 ? join('~', 'cache') : join(homedir(), 'cache')}`,
  })
})
