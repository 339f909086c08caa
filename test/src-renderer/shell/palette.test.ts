import { expect, test } from 'vitest'
import { type Command, matchCommands } from '../../../src-renderer/shell/palette.ts'

const command = (kind: string, title: string, note = ''): Command => ({ id: `${kind}/${title}`, kind, title, note, run: () => undefined })
const commands = [
  command('Screen', 'Runs'),
  command('Run', '2ssp 50 %', 'sample, done'),
  command('Run', 'first run', 'sample'),
  command('Model', 'sample'),
]
const titles = (text: string, searched?: Command[], most?: number) =>
  matchCommands(commands, text, searched, most).map(({ title }) => title)

test('every word must occur somewhere, and what begins with the text comes first', () => {
  expect(titles('run')).toEqual(['Runs', 'first run', '2ssp 50 %'])
  expect(titles('sample')).toEqual(['sample', '2ssp 50 %', 'first run'])
  expect(titles('2ssp done')).toEqual(['2ssp 50 %'])
  expect(titles('nothing like it')).toEqual([])
})

test('without a text all are offered in their order, up to a limit', () => {
  expect(titles('', [], 2)).toEqual(['Runs', '2ssp 50 %'])
})

test('what the server finds is listed once, after what was already listed', () => {
  const old = command('Run', 'an old one')
  expect(titles('first run', [old, command('Run', 'first run', 'sample')])).toEqual(['first run', 'an old one'])
})
