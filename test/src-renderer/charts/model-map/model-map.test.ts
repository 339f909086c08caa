import { describe, expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import {
  checkpointMap,
  denseMap,
  describeBlock,
  keptShare,
  mapFrames,
  planMap,
} from '../../../../src-renderer/charts/model-map/model-map.ts'

const sizes = Array.from({ length: 3 }, () => ({ attentionParameters: 100, mlpParameters: 300, intermediate: 8 }))

function planOf(...blocks: Plan['blocks']): Plan {
  return { blocks }
}

const kept = { attention: 'kept', mlp: { kept: 'all' } } as const
const narrow = { attention: 'kept', mlp: { kept: [0, 1, 2, 3] } } satisfies Plan['blocks'][number]
const gone = { attention: 'removed', mlp: 'removed' } as const

describe('plan', () => {
  test('a removed submodule has no length, a narrowed MLP its share', () => {
    const [first, second, third] = planMap(sizes, planOf(kept, narrow, gone), 64)
    expect(first).toMatchObject({ attention: 1, mlp: 1, kept: 8 })
    expect(second).toMatchObject({ attention: 1, mlp: 0.5, kept: 4 })
    expect(third).toMatchObject({ attention: 0, mlp: 0, kept: 0 })
  })

  test('a narrower hidden width shortens every bar', () => {
    const [block] = planMap(sizes, { blocks: [kept, kept, kept], slice: { width: 48 } }, 64)
    expect(block).toMatchObject({ attention: 0.75, mlp: 0.75 })
  })

  test('a repaired plan says which projections have other weights, and is a frame of its own', () => {
    const plan = planOf({ ...kept, replaced: ['output', 'down'] }, { ...narrow, replaced: ['down'] }, gone)
    const blocks = planMap(sizes, plan, 64)
    expect(blocks.map((block) => describeBlock(block).split(', repaired: ')[1])).toEqual(['attention and MLP', 'MLP', undefined])
    expect(mapFrames(sizes, { width: null, decisions: [], selections: [], gateSteps: [], plan }, 64).at(-1)?.title).toBe(
      'plan, weights replaced',
    )
  })

  test('the share kept counts parameters, not blocks', () => {
    expect(keptShare(sizes, planMap(sizes, planOf(kept, narrow, gone), 64))).toBeCloseTo((400 + 250) / 1200)
  })
})

describe('frames of a run', () => {
  const decision = (round: number, block: number) => ({ round, kind: 'attention' as const, block, scores: [{ block, perplexity: 2 }] })
  const history = {
    width: { kept: [4, 4, 4], of: 8 },
    decisions: [decision(1, 2), decision(2, 0)],
    selections: [],
    gateSteps: [],
    plan: planOf({ ...narrow, attention: 'removed' }, narrow, { ...narrow, attention: 'removed' }),
  }

  test('go from the dense model over the width and each decision, without a last one that says nothing new', () => {
    const frames = mapFrames(sizes, history, 64)
    expect(frames.map(({ title }) => title)).toEqual([
      'unpruned model',
      'width: neurons chosen',
      'round 1: attention of block 2 removed',
      'round 2: attention of block 0 removed',
    ])
    expect(frames.at(-1)?.blocks.map(({ attention }) => attention)).toEqual([0, 1, 0])
    expect(frames[2]?.changed).toEqual({ block: 2, part: 'attention' })
  })

  test('show every step of trained gates, closing and reopening, before the plan', () => {
    const step = (number: number, kept: number[], attentionRemoved: number[]) => ({
      ...{ step: number, divergence: 2, kept, attentionRemoved, closed: 3, reopened: 1 },
    })
    const gateSteps = [step(1, [8, 2, 8], [2]), step(2, [4, 4, 8], [])]
    const frames = mapFrames(sizes, { ...history, decisions: [], gateSteps }, 64)
    expect(frames.map(({ title }) => title)).toEqual([
      'unpruned model',
      'step 1: 3 closed, 1 reopened',
      'step 2: 3 closed, 1 reopened',
      'plan',
    ])
    expect(frames[1]?.blocks.map(({ attention, kept: neurons }) => [attention, neurons])).toEqual([
      [1, 8],
      [1, 2],
      [0, 8],
    ])
    expect(frames[2]?.blocks.map(({ attention, mlp }) => [attention, mlp])).toEqual([
      [1, 0.5],
      [1, 0.5],
      [1, 1],
    ])
    expect(frames[2]?.gates).toEqual(gateSteps[1])
  })

  test('end with the plan where a method decides at once', () => {
    const frames = mapFrames(sizes, { width: null, decisions: [], selections: [], gateSteps: [], plan: planOf(kept, gone, kept) }, 64)
    expect(frames.map(({ title }) => title)).toEqual(['unpruned model', 'plan'])
  })

  test('show the best survivor of each generation of a search', () => {
    const selection = { generation: 1, tokens: 10, candidates: ['100/000', '010/001'], fitness: [2, 1], survivors: [1] }
    const [, frame] = mapFrames(sizes, { width: null, decisions: [], selections: [selection], gateSteps: [], plan: null }, 64)
    expect(frame?.blocks.map(({ attention, mlp }) => [attention, mlp])).toEqual([
      [1, 1],
      [0, 1],
      [1, 0],
    ])
  })
})

test('a checkpoint on disk shows what it lacks against its widest block', () => {
  const description = {
    blocks: [sizes[0], { attentionParameters: 0, mlpParameters: 150, intermediate: 4 }],
    plan: null,
    shape: { hidden: 64 },
  } as unknown as Parameters<typeof checkpointMap>[0]
  expect(checkpointMap(description)[1]).toMatchObject({ attention: 0, mlp: 0.5, kept: 4 })
})

test('a checkpoint whose blocks were joined is drawn as it is, not by the plan of the blocks that there were', () => {
  const description = {
    blocks: [sizes[0], { ...sizes[1], attentionParameters: 0 }],
    plan: planOf({ attention: 'kept', mlp: 'removed' }, { attention: 'removed', mlp: { kept: 'all' } }, gone),
    shape: { hidden: 64 },
  } as unknown as Parameters<typeof checkpointMap>[0]
  expect(checkpointMap(description)).toMatchObject([
    { attention: 1, mlp: 1 },
    { attention: 0, mlp: 1 },
  ])
})

test('a part whose weights are all zeros is drawn as removed and called all zeros', () => {
  const description = {
    blocks: [
      { ...sizes[0], zeroed: ['attention'] },
      { ...sizes[1], zeroed: ['mlp'] },
    ],
    plan: null,
    shape: { hidden: 64 },
  } as unknown as Parameters<typeof checkpointMap>[0]
  const blocks = checkpointMap(description)
  expect(blocks).toMatchObject([
    { attention: 0, mlp: 1 },
    { attention: 1, mlp: 0, kept: 0 },
  ])
  expect(blocks.map(describeBlock)).toEqual(['Block 0: attention all zeros, MLP kept', 'Block 1: attention kept, MLP all zeros'])
})

test('a row is described in words', () => {
  const [block] = planMap(sizes, planOf({ ...narrow, attention: 'removed' }, kept, kept), 64)
  expect(block && describeBlock(block)).toBe('Block 0: attention removed, 4 of 8 MLP neurons kept')
  expect(describeBlock(denseMap(sizes)[1] as Parameters<typeof describeBlock>[0])).toBe('Block 1: attention kept, MLP kept')
})

test('a mixture is drawn expert by expert: kept, removed or a constant, by how often it was chosen', () => {
  // A dense block among mixtures may be wider than an expert.
  const mixture = [...sizes.slice(0, 2).map((size) => ({ ...size, experts: 4 })), { ...at(sizes, 2), intermediate: 64 }]
  const mlp = { kept: 'all' as const, experts: [0, 2], constants: [3] }
  const judged = {
    score: 'reap',
    tokens: 100,
    chosen: 2,
    blocks: [{ block: 0, tokens: [80, 10, 40, 0], scores: [], superExperts: [] }],
  } as const
  const [first, second] = planMap(mixture, planOf({ attention: 'kept', mlp }, kept, kept), 64, judged as never)
  expect(first?.experts).toEqual([
    { state: 'kept', use: 1 },
    { state: 'removed', use: 0.125 },
    { state: 'kept', use: 0.5 },
    { state: 'constant', use: 0 },
  ])
  expect(first?.mlp).toBe(0.5)
  expect(describeBlock(first as never)).toBe('Block 0: attention kept, 2 of 4 experts kept, 1 replaced by constants')
  expect(describeBlock(second as never)).toBe('Block 1: attention kept, all 4 experts kept')
  const narrowed = { kept: 'all' as const, keptByExpert: [0, 1, 2, 3].map(() => [0, 1]) }
  const [cut] = planMap(mixture, planOf({ attention: 'kept', mlp: narrowed }, kept, kept), 64)
  expect(cut).toMatchObject({ mlp: 0.25, kept: 2 })
  expect(
    mapFrames(
      mixture,
      { width: null, decisions: [], selections: [], gateSteps: [], plan: planOf({ attention: 'kept', mlp }, kept, kept) },
      64,
    ),
  ).toHaveLength(2)
})
