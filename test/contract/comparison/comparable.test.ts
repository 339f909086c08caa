import { expect, test } from 'vitest'
import { apartTexts, type Comparable, comparableSets, rivalSets, whyApart } from '#contract/comparison/comparable.ts'
import type { MeasuredOn } from '#contract/runs/measures.ts'

const on: MeasuredOn = { hash: 'windows', count: 8, sequenceLength: 512, text: 'prose', bytes: 16_000 }

interface Wishes {
  model?: string
  content?: string
  name?: string
  /** The dense model that a saved one comes from. */
  descends?: string
}

function run(changes: Partial<MeasuredOn> | null = {}, { model = 'a', content = '1', name = 'perplexity', descends = model }: Wishes = {}) {
  const own = changes === null ? {} : { on: { ...on, ...changes } }
  return {
    model: { id: model, name: model },
    fingerprint: content,
    lineage: { model: descends, content, pruned: descends !== model },
    measures: [{ name, dataset: 'prose', value: 10, best: 10, unit: '', ...own }],
  } as unknown as Comparable
}

const perplexity = { name: 'perplexity', dataset: 'prose' }
const bits = { name: 'bits per byte', dataset: 'prose' }

test('numbers are apart by windows, begin token, precision, content of the model, and where nothing is known', () => {
  const why = (one: Comparable, other = run()) => whyApart(one, other, perplexity)
  expect(why(run())).toBeNull()
  expect(why(run({}, { model: 'b' })), 'another model on the same tokens').toBeNull()
  expect(why(run({ hash: 'x' }))).toBe('measured on other text')
  expect(why(run({ hash: 'x' }, { model: 'b' }))).toBe('measured on other tokens')
  expect(why(run({ count: 2, sequenceLength: 2048 }))).toBe('measured on 2 windows of 2,048 tokens, not 8 windows of 512 tokens')
  expect(why(run({ hash: 'x', beginToken: true }))).toBe('its windows begin with BOS')
  expect(why(run({ beginToken: false }))).toBeNull()
  expect([why(run({ precision: 'bfloat16' })), why(run(), run({ precision: 'bfloat16' }))]).toEqual([
    'computed in bfloat16',
    'not computed in bfloat16',
  ])
  expect(why(run({}, { content: '2' }))).toBe('its model was replaced in between')
  expect(why(run(null)), 'not even with another of which nothing is known').toBe('what it was measured on is not known')
  expect(whyApart(run(null), run(null), perplexity)).toBe('what it was measured on is not known')
})

test('a saved model is apart from the dense one that replaced its ancestor', () => {
  const saved = (content: string) => run({}, { model: 'saved', descends: 'a', content })
  expect(whyApart(saved('1'), run(), perplexity)).toBeNull()
  expect(whyApart(saved('2'), run(), perplexity)).toBe('its model was replaced in between')
})

test('bits per byte compares models with other tokens of the same text, in as many windows of that length', () => {
  const why = (one: Partial<MeasuredOn>, model: string) =>
    whyApart(run({ hash: 'x', ...one }, { model, name: bits.name }), run({}, { name: bits.name }), bits)
  expect(why({}, 'b')).toBeNull()
  expect(why({ beginToken: true }, 'b'), 'each as its model expects').toBeNull()
  expect(why({ text: 'code' }, 'b')).toBe('measured on other text')
  expect(why({ sequenceLength: 128 }, 'b')).toBe('measured on 8 windows of 128 tokens, not 8 windows of 512 tokens')
  expect(why({ beginToken: true }, 'a'), 'one model must read the same').toBe('its windows begin with BOS')
})

test('accuracies need the same questions, sizes only the same model', () => {
  const accuracy = { name: 'accuracy', dataset: 'prose' }
  const one = (changes: Partial<MeasuredOn> | null, content = '1') => run(changes, { name: 'accuracy', content })
  expect(whyApart(one({ hash: 'x' }), one({}), accuracy)).toBe('answered other questions')
  expect(whyApart(one(null), one(null), accuracy)).toBeNull()
  expect(whyApart(one(null), one({}), accuracy)).toBe('what it was measured on is not known')
  const size = { name: 'size', dataset: 'prose' }
  const sized = (content: string) => run(null, { name: 'size', content })
  expect([whyApart(sized('1'), sized('1'), size), whyApart(sized('1'), sized('2'), size)]).toEqual([
    null,
    'its model was replaced in between',
  ])
})

test('in a set each may be compared with each, and rivals of a result are all that it may be compared with', () => {
  const named = (name: string, one: Comparable) => ({ name, runs: [one] })
  // b may be compared with a before and after it was replaced, which may not be compared with each other.
  const results = [named('old', run({}, { content: '0' })), named('new', run()), named('b', run({}, { model: 'b' })), named('newer', run())]
  const names = (sets: { name: string }[][]) => sets.map((set) => set.map(({ name }) => name).join())
  expect(names(comparableSets(results, [perplexity]))).toEqual(['old,b', 'new,newer'])
  const rivals = rivalSets(results, [perplexity]).map((set) => [set.results[0]?.name, set.rivals.map(({ name }) => name).join()])
  expect(rivals).toEqual([
    ['old', 'old,b'],
    ['new', 'new,newer,b'],
    ['b', 'old,new,newer,b'],
  ])
  expect(apartTexts(comparableSets(results, [perplexity]), [perplexity], ({ name }) => name)).toEqual([
    'Not compared with the others: new; newer (its model was replaced in between).',
  ])
})
