import { rmSync } from 'node:fs'
import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { RequestPreview } from '#contract/runs/request-preview.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { openSpec } from '#engine/model/model.ts'
import { gateBytes } from '#engine/pruning/gates/room.ts'
import { methods } from '#engine/pruning/registry.ts'
import { checkRequests, memoryOfRequest } from '#engine/tasks/check-request.ts'
import { expectedOf, referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const text = 'Once upon a time there was a little girl who loved to play. '
const folder = scratchFolder('check')
let model: string
let bare: string
beforeAll(async () => {
  await writeFile(join(folder, 'long.txt'), text.repeat(60))
  await writeFile(join(folder, 'short.txt'), text)
  model = await referenceModel('stories260k')
  bare = await referenceModel('mistral-tiny')
})

const windows = (name: string, sequenceLength = 64) => ({ source: join(folder, name), sequenceLength })

async function check(changes: Partial<RunRequest>): Promise<RequestPreview> {
  const request = { model, method: '2ssp', amount: { sparsity: 0.5 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const [preview] = await checkRequests([{ ...request, calibration: windows('long.txt'), ...changes }])
  return preview as RequestPreview
}

describe('what a request comes to', () => {
  it('is what Eq. 5 gives and what 2SSP reaches, as the reference recorded it', async () => {
    const recorded = (
      await expectedOf<{ '2ssp': { rate: number; P: number; num_preserve_mlp: number; true_sparsity_of_blocks: number }[] }>('stories260k')
    )['2ssp']
    const { checkpoint, spec } = await openSpec(await referenceModel('stories260k'))
    await checkpoint.close()
    // Each removed attention takes the norm in front of it, which the reference keeps.
    const norm = spec.hidden / stackParameters(spec)
    for (const { rate, P, num_preserve_mlp: kept, true_sparsity_of_blocks: reached } of recorded) {
      const preview = await check({ amount: { sparsity: rate } })
      expect(preview).toMatchObject({ problems: [], attentionRemoved: P, neuronsRemovedPerBlock: 172 - kept })
      expect(preview.reached).toBeCloseTo(reached + P * norm, 9)
    }
  })

  it('is experts of a mixture, with what that changes; a dense model has none', async () => {
    const mixture = await referenceModel('qwen3_moe')
    await writeFile(join(folder, 'windows.json'), JSON.stringify([Array.from({ length: 64 }, (_, token) => token)]))
    const calibration = windows('windows.json')
    const reap = { method: 'reap', model: mixture, calibration, amount: { experts: 0.25 } }
    const { params } = await expectedOf<{ params: { total: number; active: number; expert: number; moe_blocks: number[] } }>('qwen3_moe')
    const preview = await check(reap)
    const gone = 2 * params.moe_blocks.length
    const words = (count: number) => count.toLocaleString('en')
    expect(preview).toMatchObject({ problems: [], expertsRemoved: gone })
    expect(preview.notes).toEqual([
      `Removing ${gone} experts saves memory, not time: the model has ${words(params.total - gone * (params.expert + 48))} parameters instead of ${words(params.total)}, but each token still uses ${words(params.active - gone * 48)} of them (before: ${words(params.active)}).`,
    ])
    const repaired = await check({ ...reap, repair: { kind: 'in-order', calibration } })
    expect(repaired.problems).toEqual([])
    expect(repaired.work?.phases.some(({ part }) => part === 'repair')).toBe(true)
    const recover = { text: calibration, amount: { tokens: 256 } }
    expect((await check({ ...reap, recover })).problems).toMatchObject([{ message: expect.stringContaining('cannot be recovered') }])
    const both = await check({ ...reap, method: '2ssp', options: { experts: 0.25, stages: 'first' }, amount: { sparsity: 0.5 } })
    expect(both).toMatchObject({ problems: [], expertsRemoved: gone, attentionRemoved: 0 })
    expect(both.notes[0]).toContain('saves memory, and the other removals also save time')
    expect(both.formats.find(({ format }) => format === 'stock')).toMatchObject({ problem: null })
    expect((await check({ ...reap, method: '2ssp' })).problems).toMatchObject([
      { field: 'amount', message: expect.stringContaining('does not take a share of experts') },
    ])
    expect((await check({ ...reap, amount: { experts: 0.9 } })).problems).toMatchObject([
      { field: 'amount', message: expect.stringContaining('at most 6 can be removed') },
    ])
    expect((await check({ method: 'reap' })).problems).toMatchObject([{ message: expect.stringContaining('no mixtures of experts') }])
  })

  it('is counted in whole blocks for depth methods', async () => {
    expect(await check({ method: 'shortgpt', amount: { sparsity: 0.35 } })).toMatchObject({
      problems: [],
      blocksRemoved: 2,
      reached: 0.4,
    })
  })

  it('has a note where windows are longer than the model was made for', async () => {
    const { notes, problems } = await check({ calibration: windows('long.txt', 600) })
    expect(problems).toEqual([])
    expect(notes).toEqual([expect.stringMatching(/^Windows of 600 tokens are longer than the 512/)])
  })
})

describe('what stands in the way of a request is named with its field', () => {
  const perplexity = (name: string) => [{ kind: 'perplexity' as const, name, data: windows(name) }]
  // biome-ignore format: one case a line
  const cases: [string, () => Partial<RunRequest>, Partial<RequestPreview['problems'][number]>][] = [
    ['a sparsity out of reach', () => ({ amount: { sparsity: 0.999 } }), { code: 'infeasible', field: 'amount' }],
    ['a method that there is not', () => ({ method: 'wanda' }), { code: 'usage', field: 'method' }],
    ['a method that was removed', () => ({ method: '2ssp_fit' }), { code: 'usage', field: 'method', message: expect.stringMatching(/was removed.* choose gates/) }],
    ['an option that there is not', () => ({ options: { beta: 1 } }), { code: 'usage', field: 'options.beta' }],
    ['an option out of its range', () => ({ options: { alpha: -1 } }), { code: 'usage', field: 'options.alpha', message: expect.stringMatching(/^alpha is -1; it must be /) }],
    ['no calibration data', () => ({ calibration: undefined }), { field: 'calibration' }],
    ['a text that is not there', () => ({ calibration: windows('nowhere.txt') }), { code: 'not-found', field: 'calibration' }],
    ['a text that is too short to measure on', () => ({ measures: perplexity('short.txt') }), { code: 'invalid', field: 'measures.0.data' }],
    ['a model without tokenizer and a text', () => ({ model: bare }), { code: 'invalid', field: 'calibration', message: expect.stringContaining('tokenizer.json') }],
    ['a model without tokenizer and questions', () => ({ model: bare, calibration: undefined, method: 'dense', measures: [{ kind: 'tasks', tasks: ['piqa'] }] }), { field: 'measures.0', message: expect.stringContaining('tokenizer.json') }],
    ['questions that are not there', () => ({ measures: [{ kind: 'tasks', tasks: ['piqa'], folder }] }), { code: 'not-found', field: 'measures.0' }],
    ['a local data set that is not there', () => ({ localFolder: folder, calibration: { source: 'c4-train', sequenceLength: 64 } }), { code: 'not-found', field: 'calibration' }],
    ['a prompt that leaves no room', () => ({ measures: [{ kind: 'answers', prompts: [text.repeat(4)], maxLength: 16 }] }), { field: 'measures.0.prompts' }],
    ['a task whose answers fill the context', () => ({ measures: [{ kind: 'tasks', tasks: ['ifeval'] }] }), { field: 'measures.0', of: { id: 'ifeval', title: 'IFEval' } }],
    ['too little memory', () => ({ memoryBytes: 2 ** 14 }), { code: 'out-of-memory', field: 'memoryBytes' }],
    ['a repair that does not fit into memory', () => ({ repair: { kind: 'in-order', calibration: { ...windows('long.txt'), windows: 14 } }, memoryBytes: 2_900_000 }), { code: 'out-of-memory', field: 'repair', message: expect.stringMatching(/^Repair with 14 windows needs .* Use at most \d windows, or give more memory\. The text offers \d+ windows\.$/) }],
    ['an ablation that nothing judges', () => ({ method: 'l1_norm' }), { field: 'measures' }],
    ['an ablation of a sparsity out of reach', () => ({ method: 'one_stage', options: { sparsities: [0.99] }, measures: perplexity('long.txt') }), { code: 'infeasible', field: 'amount' }],
  ]

  it.each(cases)('%s', async (_name, changes, problem) => {
    expect((await check(changes())).problems).toMatchObject([problem])
  })

  it('and a data set of the hub becomes a file to fetch', async () => {
    const { problems, fetches } = await check({ calibration: { source: 'c4-train', sequenceLength: 64 } })
    expect(problems).toEqual([])
    expect(fetches).toMatchObject([{ field: 'calibration', file: { repository: 'allenai/c4' } }])
  })
})

it('a file that is measured is a second model in memory, unless both do not fit', async () => {
  const { checkpoint, spec } = await openSpec(model)
  await checkpoint.close()
  const memoryOf = async (changes: Partial<RunRequest>) => (await check({ amount: { sparsity: 0.25 }, ...changes })).memoryBytes as number
  const [alone, both] = [await memoryOf({}), await memoryOf({ weights: 'F16' })]
  const left = 4 * 0.75 * stackParameters(spec)
  expect(both - alone).toBeGreaterThan(0.9 * left)
  expect(await memoryOf({ weights: 'F16', memoryBytes: 6 * stackParameters(spec) })).toBeLessThan(alone + 0.5 * left)
})

it.each<[string, Partial<RunRequest>]>([
  ['a method', {}],
  ['a repair', { repair: { kind: 'in-order', calibration: { ...windows('long.txt'), windows: 14 } } }],
  ['a recovery', { recover: { amount: { tokens: 1024 }, text: windows('long.txt') } }],
  ['a file', { weights: 'F16' }],
])('the memory that a run with %s claims is what its preview says', async (_, changes) => {
  const request = { model, method: '2ssp', amount: { sparsity: 0.5 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const { problems, memoryBytes } = await check(changes)
  expect([problems, await memoryOfRequest({ ...request, calibration: windows('long.txt'), ...changes })]).toEqual([[], memoryBytes])
})

it('a repair with more windows than its text has is checked with those of the text', async () => {
  const repair = { kind: 'in-order' as const, calibration: { ...windows('long.txt'), windows: 10_000_000 } }
  expect((await check({ repair })).problems).toEqual([])
})

it.each<[string, Partial<RunRequest>]>([
  ['a sparsity', {}],
  ['a size', { amount: { bytes: 400_000, format: 'gguf', type: 'F16' } }],
  ['a speed, from which only the run learns what to remove,', { amount: { tokensPerSecond: 1000 } }],
])('of a run for %s the memory counts a repair and a recovery', async (_, changes) => {
  const repair = { kind: 'in-order' as const, calibration: { ...windows('long.txt'), windows: 14 } }
  const recover = { amount: { tokens: 1024 }, text: windows('long.txt') }
  const of = async (added: Partial<RunRequest>) => {
    const { problems, memoryBytes } = await check({ ...changes, memoryBytes: 2 ** 30, ...added })
    expect(problems).toEqual([])
    return memoryBytes ?? 0
  }
  const [alone, repaired, recovered] = [await of({}), await of({ repair }), await of({ recover })]
  expect(repaired).toBeGreaterThan(alone)
  expect(recovered).toBeGreaterThan(repaired)
})

it('a wrong option is one problem, whatever the amount is', async () => {
  for (const amount of [{ sparsity: 0.5 }, { tokensPerSecond: 1000 }, { bytes: 700_000, format: 'gguf', type: 'F16' } as const])
    expect((await check({ amount, options: { windows: -1 } })).problems).toMatchObject([{ field: 'options.windows' }])
})

describe('a recovery', () => {
  const recover = () => ({ amount: { tokens: 1024 }, text: windows('long.txt') })

  it('that does not fit into memory is refused with what it needs and what is free', async () => {
    const { problems } = await check({ recover: recover(), memoryBytes: 2 ** 23 })
    expect(problems).toEqual([
      {
        field: 'recover',
        code: 'out-of-memory',
        message: expect.stringMatching(/^Recovery needs \d+ MiB to train 0\.1 million weights .* only 8 MiB are free\./),
      },
    ])
  })

  it('counts in the memory of its run: weights, moments, gradients and activations', async () => {
    const [alone, all, factors] = [
      await check({}),
      await check({ recover: recover(), memoryBytes: 2 ** 30 }),
      await check({ recover: { ...recover(), trains: 'low-rank' }, memoryBytes: 2 ** 30 }),
    ]
    expect(all.problems).toEqual([])
    const [before, after, less] = [alone, all, factors].map(({ memoryBytes }) => memoryBytes ?? 0) as [number, number, number]
    const { checkpoint, spec } = await openSpec(model)
    await checkpoint.close()
    const trained = (1 - (all.reached ?? 0)) * stackParameters(spec)
    // Seven float32 copies of what is trained, and a tile of 2 ** 22 logits six times.
    expect(after).toBeGreaterThan(28 * trained + 24 * 2 ** 22)
    // So small a model has about as many factors as weights.
    expect(less).toBeGreaterThan(before)
  })

  it('is refused where a budget leaves the embedding on the disk, with what it needs', async () => {
    const { problems } = await check({ recover: recover(), memoryBytes: 2 ** 18 })
    expect(problems).toContainEqual({
      field: 'recover',
      code: 'out-of-memory',
      message: 'Recovery needs the embedding and the head in memory, 1 MiB. They may take 40 % of it. Give at least 1 MiB.',
    })
  })

  it('is refused in a sentence where nothing can be trained', async () => {
    const sliced = await check({ method: 'slicegpt', recover: recover() })
    expect(sliced.problems.map(({ message }) => message)).toEqual([
      'SliceGPT cannot be recovered: its stream has another basis. Choose no recovery.',
    ])
    const dense = await check({ method: 'dense', recover: recover() })
    expect(dense.problems.map(({ message }) => message)).toContain(
      'Only a pruned model can be recovered. Choose a pruning method, or no recovery.',
    )
  })
})

it('the memory of gates is that of a step, which several windows share', async () => {
  const memoryOf = async (method: string, options: Record<string, unknown> = {}) => (await check({ method, options })).memoryBytes ?? 0
  const [simple, one, two] = [await memoryOf('2ssp'), await memoryOf('gates'), await memoryOf('gates', { windowsPerStep: 2 })]
  expect(one).toBeGreaterThan(simple)
  const { spec, checkpoint } = await openSpec(model)
  await checkpoint.close()
  expect(two - one).toBe(gateBytes(spec, 64, 2) - gateBytes(spec, 64, 1))
})

describe('the requests of a grid', () => {
  const ofGrid = (changes: Partial<RunRequest>): RunRequest => ({
    ...{ model, method: 'gates', amount: { sparsity: 0.2 }, options: {}, seed: 0, measures: [], backend: 'auto' },
    ...{ calibration: windows('long.txt'), ...changes },
  })

  /** A model that no earlier check has opened. */
  const copyOfModel = async (name: string) => {
    const copy = join(folder, name)
    await cp(model, copy, { recursive: true })
    return copy
  }

  it('make the plans of an amount and count its search once, whatever repairs and types there are', async () => {
    const repair = { kind: 'in-order' as const, calibration: windows('long.txt') }
    const treatments: Partial<RunRequest>[] = [{}, { repair }, { weights: 'F16' }, { weights: 'F16', repair }]
    const requests = ['gates', 'evopress'].flatMap((method) =>
      [0.2, 0.4].flatMap((sparsity) => treatments.map((treatment) => ofGrid({ method, amount: { sparsity }, ...treatment }))),
    )
    const alone = await Promise.all(requests.map(async (request) => (await checkRequests([request]))[0]))
    const spies = [vi.spyOn(methods.gates, 'boundingPlans'), vi.spyOn(methods.gates, 'work'), vi.spyOn(methods.evopress, 'work')]
    const copy = await copyOfModel('of a grid')
    expect(await checkRequests(requests.map((request) => ({ ...request, model: copy })))).toEqual(alone)
    // The range of sizes takes the plans of one more amount for each type.
    expect(spies.map(({ mock }) => mock.calls.length)).toEqual([2 + 2, 2, 2])
    vi.restoreAllMocks()
  })

  it('are not checked further once a message aborts the check', async () => {
    const leaving = new AbortController()
    const counted = vi.spyOn(methods.gates, 'work').mockImplementationOnce(() => {
      setImmediate(() => leaving.abort(new Error('left')))
      return []
    })
    const requests = [0.1, 0.2, 0.3, 0.4].map((sparsity) => ofGrid({ amount: { sparsity } }))
    await expect(checkRequests(requests, leaving.signal)).rejects.toThrow('left')
    expect(counted.mock.calls.length).toBeLessThan(requests.length)
    vi.restoreAllMocks()
  })

  it('find their model open from the check before, until one of its files changes', async () => {
    const copy = await copyOfModel('kept open')
    const read = vi.spyOn(JSON, 'parse')
    const readsOf = async () => {
      read.mockClear()
      const [preview] = await checkRequests([ofGrid({ model: copy })])
      return { read: read.mock.calls.length > 0, problems: preview?.problems }
    }
    expect(await readsOf()).toEqual({ read: true, problems: [] })
    expect(await readsOf()).toEqual({ read: false, problems: [] })
    await writeFile(join(copy, 'tokenizer.json'), '{}')
    await expect(readsOf()).rejects.toThrow('tokenizer.json is not usable')
    vi.restoreAllMocks()
  })

  it('open their model once', async () => {
    const copy = await copyOfModel('opened once')
    const counted = vi.spyOn(methods.gates, 'work').mockImplementationOnce(() => {
      rmSync(copy, { recursive: true })
      return []
    })
    const previews = await checkRequests([0.2, 0.4].map((sparsity) => ofGrid({ model: copy, amount: { sparsity } })))
    expect(counted).toHaveBeenCalledTimes(2)
    expect(previews.map(({ problems }) => problems)).toEqual([[], []])
    vi.restoreAllMocks()
  })
})

it('a text whose parts are too short to choose or to decide is refused where each is asked for', async () => {
  const part = (part: 'choosing' | 'deciding', name = 'short.txt') => ({ ...windows(name), split: { part, seed: 0 } })
  const measures = (name?: string) => [{ kind: 'perplexity' as const, name: 'own', data: part('deciding', name) }]
  const { problems } = await check({ calibration: part('choosing'), measures: measures() })
  expect(problems.map(({ field, message }) => [field, /4 windows need 256/.test(message)])).toEqual([
    ['calibration', true],
    ['measures.0.data', true],
  ])
  expect((await check({ calibration: part('choosing', 'long.txt'), measures: measures('long.txt') })).problems).toEqual([])
})
