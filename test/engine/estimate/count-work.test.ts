import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import type { PhaseWork } from '#contract/runs/time/estimate.ts'
import { ablationTitles, type GgufType, methodTitles, type WeightType } from '#contract/titles.ts'
import { activeParameters, blockParameters } from '#engine/architectures/count-parameters.ts'
import type { Projection } from '#engine/architectures/spec.ts'
import { workOf } from '#engine/estimate/count-work.ts'
import type { WorkModel } from '#engine/estimate/phase-counts.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openSpec } from '#engine/model/model.ts'
import { workOfRequests } from '#engine/tasks/check-request.ts'
import { referenceModel } from '../../fixtures/reference.ts'

const sample = join(import.meta.dirname, '..', '..', '..', 'resources', 'sample-model')
const text = (file: string, windows?: number, sequenceLength = 256) => ({
  source: join(sample, file),
  sequenceLength,
  ...(windows === undefined ? {} : { windows }),
})
const request = (changes: Partial<RunRequest> = {}): RunRequest => ({
  model: sample,
  method: '2ssp',
  amount: { sparsity: 0.5 },
  options: {},
  seed: 0,
  calibration: text('calibration.txt'),
  measures: [{ kind: 'perplexity', name: 'test', data: text('test.txt', 8) }],
  backend: 'auto',
  ...changes,
})
let model: WorkModel

beforeAll(async () => {
  const { spec, checkpoint } = await openSpec(sample)
  await checkpoint.close()
  model = { path: sample, spec, checkpoint, tokenizer: await openModelTokenizer({ path: sample, spec }) }
})

const operations = ({ attention, mlp, head, double, vectors, solved, decoded }: PhaseWork) =>
  attention + mlp + head + double + vectors + solved + decoded
const partOf = async (asked: RunRequest, part: string) =>
  (await workOf(model, asked)).phases.filter((phase) => phase.part === part).reduce((sum, phase) => sum + operations(phase), 0)

describe('the work of a run', () => {
  test('grows with the windows it is measured on, and with their length', async () => {
    const measured = (windows: number, length = 256) =>
      partOf(request({ measures: [{ kind: 'perplexity', name: 'test', data: text('test.txt', windows, length) }] }), 'perplexity')
    const eight = await measured(8)
    expect((await measured(16)) / eight).toBeCloseTo(2, 5)
    expect((await measured(8, 128)) / eight).toBeLessThan(0.5)
  })

  test('counts what auto measures on the begin token as eight windows of a perplexity, and nothing where it measures nothing', async () => {
    const begins = (beginToken: RunRequest['beginToken']) => partOf(request({ ...(beginToken ? { beginToken } : {}) }), 'begin token')
    expect(await begins('auto')).toBeCloseTo(await partOf(request(), 'perplexity'), 5)
    expect([await begins(undefined), await begins('reference'), await begins('always')]).toEqual([0, 0, 0])
  })

  test('grows with calibration windows, and only as far as the text has some', async () => {
    const scored = (windows: number) => partOf(request({ calibration: text('calibration.txt', windows) }), 'pruning')
    expect(await scored(16)).toBeGreaterThan(await scored(8))
    const all = (changes: Partial<RunRequest['options']>) => partOf(request({ options: { windows: 1_000_000, ...changes } }), 'pruning')
    expect(await all({})).toBe(await all({ windows: 2_000_000 }))
  })

  test('shrinks with a lazy search, which scores only some again', async () => {
    const removing = (lazy: number) => partOf(request({ method: 'blockpruner', options: { lazy } }), 'pruning')
    const all = await removing(0)
    expect(await removing(3)).toBeLessThan(0.6 * all)
    expect(await removing(100)).toBe(all)
  })

  test('counts what 16-bit products do: all of a pass, and the ranking of candidates except those scored again', async () => {
    const phases = async (changes: Partial<RunRequest>) => (await workOf(model, request(changes))).phases
    const fasterOf = (all: PhaseWork[], part: string) => all.filter((phase) => phase.part === part).flatMap(({ faster }) => faster ?? [])
    const exact = { products: 'thirds', share: 1 }
    expect(fasterOf(await phases({ precision: 'float32' }), 'pruning')).toEqual([exact, exact])
    const stored = new Map([...model.checkpoint.tensors].map(([name, tensor]) => [name, { ...tensor, dtype: 'F32' as const }]))
    const inFloat32 = await workOf({ ...model, checkpoint: { tensors: stored } }, request({ precision: 'float32' }))
    expect(fasterOf(inFloat32.phases, 'pruning'), 'only weights of bfloat16 numbers are taken in three parts').toEqual([])
    const mixed = await phases({ precision: 'mixed' })
    expect(fasterOf(mixed, 'perplexity')).toEqual([{ products: 'split', share: 1 }])
    const [scoring, ranked, again] = fasterOf(mixed, 'pruning')
    expect(scoring).toEqual({ products: 'split', share: 1 })
    expect([ranked?.products, again?.products]).toEqual(['bfloat16', 'split'])
    expect((ranked?.share ?? 0) + (again?.share ?? 0)).toBeCloseTo(1, 10)
    expect(ranked?.share).toBeGreaterThan(0.7)
    const lazy = fasterOf(await phases({ precision: 'mixed', options: { lazy: 3 } }), 'pruning')
    expect(lazy, 'a lazy search ranks none').toEqual([scoring, exact])
    const [, rankedByAuto, againByAuto] = fasterOf(await phases({ precision: 'auto' }), 'pruning')
    expect([rankedByAuto, againByAuto], 'as mixed, where auto takes 16-bit products').toEqual([{ ...ranked, products: 'auto' }, again])
    const limited = { ...model, spec: { ...model.spec, neuronLimit: { most: 7, slope: 1.702 } } }
    expect(
      (await workOf(limited, request({ precision: 'mixed' }))).phases.flatMap(({ faster }) => faster ?? []),
      'float32 all the same',
    ).toEqual([])
  })

  test('of a mixture falls with the neurons and attention that are removed after its experts, and its repair with its experts', async () => {
    const { spec, checkpoint } = await openSpec(await referenceModel('olmoe'))
    await checkpoint.close()
    const work = async (changes: Partial<RunRequest>, part: string, of = operations) => {
      const { phases } = await workOf(
        { ...model, spec: { ...spec, vocabulary: model.spec.vocabulary } },
        request({ amount: { sparsity: 0.6 }, ...changes }),
      )
      return phases.filter((phase) => phase.part === part).reduce((sum, phase) => sum + of(phase), 0)
    }
    const reap = { method: 'reap' }
    expect(await work({ options: { experts: 0.25 } }, 'perplexity')).toBeLessThan(0.9 * (await work(reap, 'perplexity')))
    const repair = { kind: 'one-pass' as const, calibration: text('calibration.txt', 8) }
    const repairing = (share: number) => work({ ...reap, amount: { experts: share }, repair }, 'repair', ({ solved }) => solved)
    expect(await repairing(0.75)).toBeLessThan(await repairing(0.25))
  })

  test('includes every measure, and a repair as a separate part', async () => {
    const asked = request({
      repair: { kind: 'in-order', calibration: text('calibration.txt', 16) },
      measures: [
        { kind: 'inference', sequenceLength: 128, repeats: 3 },
        { kind: 'answers', prompts: ['One'], maxLength: 32 },
        { kind: 'tasks', tasks: ['arc_easy'], limit: 5 },
      ],
    })
    const { phases } = await workOf(model, asked)
    for (const part of ['open', 'pruning', 'repair', 'inference', 'answers', 'tasks'])
      expect(phases.map((phase) => phase.part)).toContain(part)
    const onePass = { ...asked, repair: { kind: 'one-pass' as const, calibration: text('calibration.txt', 16) } }
    expect(await partOf(asked, 'repair')).toBeGreaterThan(await partOf(onePass, 'repair'))
  })

  test('names the writing of a file before its measures, as its progress does', async () => {
    const { phases } = await workOf(model, request({ weights: 'Q8_0' }))
    expect(phases.map(({ phase }) => phase).slice(-3)).toEqual(['Writing the file in Q8_0', 'Reading text', 'Perplexity on test'])
    // Which reads the file.
    const plain = await workOf(model, request({}))
    expect(phases.at(-1)?.seconds).toBeGreaterThan(plain.phases.at(-1)?.seconds ?? 0)
  })

  test('of writing a file grows with its values and the time of its type, and that of timing it has the unpruned file', async () => {
    const writing = async (weights: WeightType, changes: Partial<RunRequest> = {}) => {
      const { phases } = await workOf(
        model,
        request({ method: 'dense', amount: { sparsity: 0 }, calibration: undefined, weights, ...changes }),
      )
      const { stored = 0, seconds = 0 } = phases.find(({ part }) => part === 'quantising') ?? {}
      return { stored, seconds, after: phases.slice(-2).map(({ phase }) => phase) }
    }
    const [half, eight, three] = [await writing('F16'), await writing('Q8_0'), await writing('IQ4_NL')]
    expect(half.seconds).toBeGreaterThan(0)
    expect(half.stored).toBeLessThan(eight.stored)
    expect(eight.stored).toBeLessThan(three.stored)
    const pruned = await writing('IQ4_NL', { method: '2ssp', amount: { sparsity: 0.5 }, calibration: text('calibration.txt', 4) })
    expect(pruned.stored).toBeLessThan(0.9 * three.stored)
    const inference = { kind: 'inference' as const, sequenceLength: 128, repeats: 3 }
    expect((await writing('Q8_0', { measures: [inference] })).after).toEqual(['Writing the unpruned file', 'Inference time'])
    expect((await writing('F16', { measures: [inference] })).after, 'the file is the unpruned one').not.toContain(
      'Writing the unpruned file',
    )
  })

  test('of pricing types is counted in values, whose rate was measured, and grows where types of few bits fit the rows', async () => {
    const pricing = async (spec = model.spec) => {
      const asked = request({ method: 'dense', amount: { sparsity: 0 }, weights: 'MIXED:1500000', calibration: text('calibration.txt', 4) })
      const { phases } = await workOf({ ...model, spec }, asked)
      return phases.find(({ phase }) => phase === 'Pricing weight types')
    }
    const own = await pricing()
    expect(own).toMatchObject({ seconds: 0, mlp: 0 })
    expect(own?.stored).toBeGreaterThan(0)
    const width = model.spec.hidden
    const block = (index: number) => {
      const tensors = model.spec.block(index)
      const widened = ({ columns, ...rest }: Projection) => ({ ...rest, columns: columns === width ? 256 : columns })
      return { ...tensors, query: widened(tensors.query), key: widened(tensors.key), value: widened(tensors.value) }
    }
    const [narrow, wide] = [own?.stored ?? 0, (await pricing({ ...model.spec, block }))?.stored ?? 0]
    expect(width % 256).not.toBe(0)
    expect(wide / narrow, 'types of few bits too').toBeGreaterThan(256 / width)
  })

  test('counts the importances of a plan once for all types that weigh errors', async () => {
    const weighing = async (weights: GgufType, changes: Partial<RunRequest> = {}) => {
      const { phases } = await workOf(model, request({ weights, ...changes }))
      return phases.find(({ part }) => part === 'weighing columns')
    }
    const few = await weighing('Q4_0')
    expect(few?.mlp).toBeGreaterThan(0)
    expect((await weighing('Q2_K'))?.shared).toBe(few?.shared)
    expect((await weighing('Q4_0', { amount: { sparsity: 0.25 } }))?.shared).not.toBe(few?.shared)
    expect(await weighing('Q8_0')).toBeUndefined()
  })

  test('of bytes that are divided between parts and bits counts the method, its repair, and the choice of types twice', async () => {
    const weights = 'MIXED:1500000' as const
    const mixed = { weights, calibration: text('calibration.txt', 4) }
    const repair = { kind: 'in-order' as const, calibration: text('calibration.txt', 4) }
    const amount = { bytes: 1.5e6, format: 'gguf', type: weights } as const
    const divided = request({ ...mixed, method: 'gates', options: { steps: 30 }, amount, repair })
    const dense = request({ ...mixed, method: 'dense', amount: { sparsity: 0 } })
    for (const part of ['pruning', 'repair', 'perplexity']) expect(await partOf(divided, part), part).toBeGreaterThan(0)
    const choice = await partOf(dense, 'choosing types')
    expect(choice).toBeGreaterThan(0)
    const times = (await partOf(divided, 'choosing types')) / choice
    expect(times, 'of the dense model, then of what is left').toBeGreaterThan(1.6)
    expect(times).toBeLessThan(2)
    // The first choice is that of the dense file, so an experiment with both does it once.
    const steps = async (asked: RunRequest) =>
      (await workOf(model, asked)).phases.flatMap(({ part, shared = '' }) => (/types|columns/.test(part) ? [shared] : []))
    const [dividing, whole] = [await steps(divided), await steps(dense)]
    expect(whole.every((step) => dividing.includes(step))).toBe(true)
    expect(new Set(dividing).size).toBe(2 * whole.length)
    // With many bits for each parameter, none is removed, and nothing but the dense model is priced.
    const large = { ...divided, weights: 'MIXED:2000000' as const, amount: { ...amount, bytes: 2e6, type: 'MIXED:2000000' as const } }
    expect(await steps(large)).toEqual(whole)
    expect(await partOf(large, 'pruning')).toBe(0)
    const recovered = await workOf(model, { ...large, recover: { amount: { minutes: 10 }, text: text('calibration.txt') } })
    expect(recovered.phases.find(({ part }) => part === 'recovery')?.seconds).toBe(600)
  })

  test('of a speed counts the files that are timed before the method and after it, and half of what the method can remove', async () => {
    const speed = request({ amount: { tokensPerSecond: 100 }, weights: 'Q8_0', calibration: text('calibration.txt', 4) })
    const { phases } = await workOf(model, speed)
    const order = phases.map(({ phase }) => phase).filter((phase) => /files? |pruned file|Scoring|Stage/.test(phase))
    expect(order[0]).toBe('Writing files of several sizes')
    expect(order[1]).toBe('Timing files of several sizes')
    expect(order.slice(-3)).toEqual(['Writing the pruned file', 'Timing the pruned file', 'Writing the file in Q8_0'])
    const decodedOf = (phase: string) => phases.find((one) => one.phase === phase)?.decoded ?? 0
    const [samples, result] = [decodedOf('Timing files of several sizes'), decodedOf('Timing the pruned file')]
    expect(result).toBeGreaterThan(0)
    expect(samples).toBeGreaterThan(result)
    expect(
      phases.filter(({ part, shared }) => part === 'timing files' && shared !== undefined),
      'times are never shared',
    ).toEqual([])
    const pruned = await partOf({ ...speed, amount: { sparsity: 0.5 } }, 'pruning')
    expect((await partOf(speed, 'pruning')) / pruned).toBeCloseTo(1, 0)
    // llama.cpp reads every byte of a file for each token.
    const readIn = async (weights: WeightType) =>
      (await workOf(model, { ...speed, weights })).phases.find(({ phase }) => phase === 'Timing files of several sizes')?.decoded ?? 0
    expect(await readIn('Q4_0')).toBeLessThan(0.9 * samples)
    // The sample model is stored in 16 bits.
    expect((await readIn('SOURCE')) / (await readIn('F16'))).toBeCloseTo(1, 1)
  })

  test('is known for every run in the queue, whatever its amount limits', async () => {
    const mixed = { weights: 'MIXED:1500000', method: 'gates', amount: { bytes: 1.5e6, format: 'gguf', type: 'MIXED:1500000' } } as const
    const amounts: Partial<RunRequest>[] = [{ amount: { tokensPerSecond: 100 } }, { amount: { bytes: 4e6, format: 'gguf' } }, mixed]
    const works = await workOfRequests(amounts.map((own) => request({ calibration: text('calibration.txt', 4), ...own })))
    expect(works.map((work) => work?.phases.some(({ part }) => part === 'pruning'))).toEqual([true, true, true])
  })

  test('trains with bfloat16 operands whatever the precision, and reads the dense model in its own', async () => {
    const recover = { amount: { tokens: 512 }, text: text('calibration.txt') }
    const all = [{ products: 'bfloat16', share: 1 }]
    for (const [precision, dense] of [
      ['float32', []],
      ['mixed', all],
      ['auto', [{ products: 'auto', share: 1 }]],
    ] as const) {
      const { phases } = await workOf(model, request({ recover, precision }))
      const found = phases.filter(({ part, mlp }) => part === 'recovery' && mlp > 0).map(({ faster }) => faster)
      expect(found).toEqual([dense, all])
    }
  })

  test('counts the time in which a low-rank recovery makes the weights that it does not keep', async () => {
    const asked = (trains: 'all' | 'low-rank') => ({ amount: { tokens: 4096 }, text: text('calibration.txt'), trains })
    const made = async (trains: 'all' | 'low-rank') =>
      (await workOf(model, request({ recover: asked(trains) }))).phases.reduce((sum, { decoded }) => sum + decoded, 0)
    expect(await made('all')).toBe(0)
    expect(await made('low-rank')).toBeGreaterThan(0)
  })

  test('counts a recovery by its tokens, or takes its minutes unchanged', async () => {
    const recover = (amount: { tokens: number } | { minutes: number }) => request({ recover: { amount, text: text('calibration.txt') } })
    const [few, many] = [await partOf(recover({ tokens: 512 }), 'recovery'), await partOf(recover({ tokens: 4096 }), 'recovery')]
    expect(many).toBeGreaterThan(few)
    const { phases } = await workOf(model, recover({ minutes: 2 }))
    expect(phases.find(({ part }) => part === 'recovery')).toMatchObject({ seconds: 120, mlp: 0 })
  })

  test.each(Object.keys(methodTitles).filter((method) => method !== 'dense' && method !== 'reap'))(
    'of %s is known before it runs',
    async (method) => {
      expect(await partOf(request({ method }), 'pruning')).toBeGreaterThan(0)
      expect(await partOf(request({ method, amount: { sparsity: 0 } }), 'pruning'), 'nothing to remove').toBe(0)
    },
  )

  test('names what leads to a plan, which runs of other weights and measures find done', async () => {
    const namesOf = async (changes: Partial<RunRequest>, part: string) =>
      (await workOf(model, request(changes))).phases.filter((phase) => phase.part === part).map(({ shared }) => shared)
    const repair = { kind: 'in-order' as const, calibration: text('calibration.txt', 4) }
    const recover = { amount: { tokens: 2 ** 14 }, text: text('calibration.txt') }
    const whole = { repair, recover }
    for (const part of ['pruning', 'repair', 'recovery']) {
      const names = await namesOf(whole, part)
      expect(names).not.toContain(undefined)
      expect(new Set(names).size).toBe(names.length)
      expect(await namesOf({ ...whole, weights: 'Q8_0', measures: [] }, part)).toEqual(names)
      expect((await namesOf({ ...whole, amount: { sparsity: 0.25 } }, part)).at(-1)).not.toBe(names.at(-1))
      for (const other of [{ seed: 1 }, { precision: 'bfloat16' }, { backend: 'ggml' }] as const) {
        const found = await namesOf({ ...whole, ...other }, part)
        expect(found.filter((name) => names.includes(name))).toEqual([])
      }
    }
    expect(await namesOf({}, 'pruning')).toEqual(await namesOf(whole, 'pruning'))
    const other = { ...whole, repair: { ...repair, kind: 'one-pass' as const } }
    for (const part of ['repair', 'recovery']) expect(await namesOf(other, part)).not.toEqual(await namesOf(whole, part))
    expect((await namesOf({ measures: request().measures }, 'perplexity')).filter(Boolean)).toEqual([])
  })

  test('of a mixture counts the experts that a token uses, also without some of them', async () => {
    const path = await referenceModel('qwen3_moe')
    const { spec, checkpoint } = await openSpec(path)
    await checkpoint.close()
    const folder = await mkdtemp(join(tmpdir(), 'espalier-work-'))
    const source = join(folder, 'windows.json')
    await writeFile(source, JSON.stringify(Array.from({ length: 4 }, () => Array.from({ length: 64 }, (_, token) => token))))
    const data = { source, sequenceLength: 64 }
    const measures = [{ kind: 'perplexity', name: 'test', data } as const]
    const asked = request({ model: path, method: 'reap', amount: { sparsity: 0.25 }, calibration: data, measures })
    const { phases } = await workOf({ path, spec, checkpoint, tokenizer: undefined as never }, asked).finally(() =>
      rm(folder, { recursive: true }),
    )
    const [scored, measured] = [phases.find(({ part }) => part === 'pruning'), phases.find(({ part }) => part === 'perplexity')]
    const met = (activeParameters(spec).active - blockParameters(spec, 0).attention * 4 - 8 * spec.hidden) / 4
    expect(scored?.mlp).toBeCloseTo((4 * 4 * 2 * 64 * met) / 1e9, 9)
    expect(measured?.mlp).toBeCloseTo(scored?.mlp ?? 0, 9)
  })

  test.each(Object.keys(ablationTitles))('of the ablation %s counts all its models', async (method) => {
    expect(await partOf(request({ method, amount: { sparsity: 0 } }), 'study')).toBeGreaterThan(await partOf(request(), 'pruning'))
  })
})
