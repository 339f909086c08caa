import { describe, expect, test } from 'vitest'
import { scoreOf } from '#contract/pruning/candidates.ts'
import type { Decision } from '#contract/runs/run.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { blockPruner, submoduleBlockPruner } from '#engine/pruning/methods/blockpruner.ts'
import { lastScores, lazyNotes, scoreLazily } from '#engine/pruning/search/greedy.ts'
import { expectSame } from '../../../fixtures/expect-same.ts'
import { fullModels } from '../../../fixtures/reference.ts'
import { openReference, prune, recordedRun } from '../running.ts'

const candidates = [0, 1, 2, 3].map((block) => ({ block }))
const last = (...perplexities: number[]) => new Map(perplexities.map((value, block) => [block, value]))

/** Scores each candidate with its new perplexity, and records which were requested together. */
function scorer(perplexities: readonly number[]) {
  const batches: number[][] = []
  const score = async (some: readonly { block: number }[]) => {
    batches.push(some.map(({ block }) => block))
    return Float64Array.from(some, ({ block }) => Math.log(perplexities[block] as number))
  }
  return { batches, score }
}

describe('candidates scored lazily', () => {
  test('stop at the first batch when no other can win by its last score', async () => {
    const { batches, score } = scorer([9, 9, 5, 9])
    const { trusted, losses } = await scoreLazily(candidates, last(6, 7, 4, 8), 1, score)
    expect([batches, trusted]).toEqual([[[2]], [0, 1, 3]])
    expect(losses.map(Math.exp)).toEqual([expect.closeTo(5, 12)])
  })

  test('continue while another last score is as low as the best found', async () => {
    const { batches, score } = scorer([6.5, 9, 7, 9])
    const { candidates: scored, trusted } = await scoreLazily(candidates, last(6, 7, 4, 8), 1, score)
    expect([batches, trusted]).toEqual([
      [[2], [0]],
      [1, 3],
    ])
    expect(scored.map(({ block }) => block)).toEqual([0, 2])
  })

  test('are all scored at once when none has a last score, and those without one always are', async () => {
    const first = scorer([1, 2, 3, 4])
    await scoreLazily(candidates, new Map(), 1, first.score)
    expect(first.batches).toEqual([[0, 1, 2, 3]])
    const { batches, score } = scorer([5, 5, 5, 5])
    await scoreLazily(
      candidates,
      new Map([
        [1, 4],
        [3, 9],
      ]),
      1,
      score,
    )
    expect(batches).toEqual([[0, 2], [1]])
  })

  test('are all scored when a loss is NaN', async () => {
    const { batches, score } = scorer([1, 1, Number.NaN, 1])
    await scoreLazily(candidates, last(6, 7, 4, 8), 2, score)
    expect(batches).toEqual([
      [2, 0],
      [1, 3],
    ])
  })

  test('know only the last score of their own kind', () => {
    const past: Decision[] = [
      { round: 1, kind: 'attention', block: 0, scores: [{ block: 1, perplexity: 3 }] },
      { round: 2, kind: 'mlp', block: 0, scores: [{ block: 1, perplexity: 8 }] },
      { round: 3, kind: 'attention', block: 2, scores: [{ block: 1, perplexity: 5 }] },
    ]
    expect([...lastScores(past, 'attention')]).toEqual([[1, 5]])
  })
})

const searches = [
  ['2ssp', twoStage, { sparsity: 0.5 }, { windows: 4, attention: 3 }],
  ['blockpruner', blockPruner, { blocks: 3 }, {}],
  ['blockpruner_submodule', submoduleBlockPruner, { blocks: 2 }, {}],
] as const

const orderOf = (decisions: readonly Decision[]) => decisions.map(({ kind, block }) => `${kind} ${block}`)
const scoringsOf = (decisions: readonly Decision[]) => decisions.flatMap(({ scores }) => scores).length

describe.each(fullModels)('%s', (name) => {
  const open = openReference(name)

  test.each(searches)('%s leaves out only what its last score keeps from winning, and says so', async (_, method, amount, options) => {
    const exact = await prune(method, open(), amount, options)
    const run = recordedRun()
    const lazy = await prune(method, open(), amount, { ...options, lazy: 1 }, run)
    expect(run.passes.head).toBe(scoringsOf(lazy.decisions))
    expect(lazy.notes).toContain(lazyNotes(lazy.decisions)[0])
    for (const [index, { kind, scores, trusted = [] }] of lazy.decisions.entries()) {
      const before = lastScores(lazy.decisions.slice(0, index), kind)
      const least = Math.min(...scores.map((score) => scoreOf(score).value))
      for (const block of trusted) expect(before.get(block)).toBeGreaterThan(least)
      expect(new Set([...scores.map(({ block }) => block), ...trusted]).size).toBe(exact.decisions[index]?.scores.length)
    }
    if (lazy.decisions.every(({ trusted }) => !trusted)) expect(orderOf(lazy.decisions)).toEqual(orderOf(exact.decisions))
    // With random weights, losses may fall; with trained ones they rise, as the message about what was assumed says.
    if (name === 'stories260k') {
      expect(orderOf(lazy.decisions)).toEqual(orderOf(exact.decisions))
      expect(scoringsOf(lazy.decisions)).toBeLessThan(scoringsOf(exact.decisions))
      expect(lazy.notes.join()).toContain(`of ${scoringsOf(exact.decisions)} candidates`)
    }
  })

  test('a lazy search that was killed resumes with what candidates scored before', async () => {
    const method = blockPruner
    const whole = await prune(method, open(), { blocks: 3 }, { lazy: 1 })
    const steps = new Map<string, string>()
    await expect(prune(method, open(), { blocks: 3 }, { lazy: 1 }, recordedRun(0, steps, 2))).rejects.toThrow('killed')
    const again = recordedRun(0, steps)
    expectSame((await prune(method, open(), { blocks: 3 }, { lazy: 1 }, again)).decisions, whole.decisions)
    expect(again.computed).toHaveLength(1)
  })

  test('with as many at once as there are candidates the search is the exact one, and says so', async () => {
    const exact = await prune(submoduleBlockPruner, open(), { blocks: 2 })
    const lazy = await prune(submoduleBlockPruner, open(), { blocks: 2 }, { lazy: 100 })
    expect(lazy.decisions.map(({ scores, block }) => [block, scores.length])).toEqual(
      exact.decisions.map(({ scores, block }) => [block, scores.length]),
    )
    expect(lazy.notes[0]).toContain('every choice is the exact one')
  })
})
