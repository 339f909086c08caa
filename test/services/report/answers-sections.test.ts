import { expect, test } from 'vitest'
import { answersSection } from '#services/report/sections.ts'

test('answers appear under their own prompt, whatever order and number of prompts a run has', () => {
  const answer = (prompt: string, text: string) => ({ prompt, text })
  const blocks = answersSection([
    { name: 'dense', answers: [answer('sum', '4'), answer('rain', 'It rains.')] },
    { name: 'none', answers: [] },
    { name: 'pruned', answers: [answer('rain', 'It snows.'), answer('list', '* a')] },
  ])
  const found = blocks.map((block) =>
    block.kind === 'beside'
      ? block.groups.flat().map((own) => own.kind === 'answer' && [own.title, own.pieces.map(({ text }) => text).join('')])
      : 'text' in block && block.text,
  )
  expect(found).toEqual([
    'Sample answers',
    'sum',
    [['dense', '4']],
    'rain',
    [
      ['dense', 'It rains.'],
      ['pruned', 'It snows.'],
    ],
    'list',
    [['pruned', '* a']],
  ])
})
