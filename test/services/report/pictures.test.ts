import { expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { planPicture } from '#services/report/pictures.ts'

const size = { attentionParameters: 1, mlpParameters: 1, intermediate: 8 }
const plan: Plan = {
  blocks: [
    { attention: 'removed', mlp: { kept: [0, 1] } },
    { attention: 'kept', mlp: { kept: 'all', experts: [0, 2], constants: [3] } },
  ],
}

test('a report draws the experts of a mixture one by one, and says how many stay', () => {
  const picture = planPicture('run', plan, [size, { ...size, experts: 4 }])
  if (picture.kind !== 'picture') throw new Error('It is no picture.')
  expect(picture.alternative).toBe(
    'run: 1 of 2 attention submodules removed; MLP neurons kept by block: 2, all; experts kept by block: all, 2.',
  )
  const second = picture.svg.slice(picture.svg.indexOf('>1</text>'))
  const filled = [...second.matchAll(/<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)" fill="#3a8757"/g)]
  // Behind the attention: experts 0 and 2 as boxes, 3 as a line; 1 is open.
  expect(filled.slice(1).map(([, x, height]) => [x, height])).toEqual([
    ['76.0', '13.0'],
    ['168.0', '13.0'],
    ['214.0', '2.0'],
  ])
})

test('a dense model has only bars', () => {
  const picture = planPicture('run', { blocks: plan.blocks.slice(0, 1) }, [size])
  if (picture.kind !== 'picture') throw new Error('It is no picture.')
  expect(picture.alternative).toBe('run: 1 of 1 attention submodule removed; MLP neurons kept by block: 2.')
  expect(picture.svg).toContain('width="46.0"')
})
