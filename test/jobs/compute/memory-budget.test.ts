import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { toErrorMessage } from '#contract/errors.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { MemoryBudget } from '#jobs/compute/memory-budget.ts'
import { eventually } from '../../eventually.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { fakeCompute } from '../../services/opened.ts'

/** A process that ends when it is asked to and idle, and then gives its memory back. */
function holderIn(budget: MemoryBudget) {
  const holder = {
    isIdle: false,
    isEnding: false,
    ended: 0,
    release() {
      if (holder.isEnding) return
      holder.isEnding = true
      queueMicrotask(() => {
        holder.isEnding = false
        holder.ended++
        budget.free(holder)
      })
    },
  }
  const claim = (title: string, gigabytes: number, waits = true, signal = new AbortController().signal) =>
    budget.claim({ holder, bytes: gigabytes * 1e9, id: title, title: `the run ${title}` }, waits, signal)
  return { holder, claim }
}

function budgetOf(gigabytes: number) {
  let changes = 0
  const budget = new MemoryBudget(
    () => gigabytes * 1e9,
    () => changes++,
  )
  return { budget, changes: () => changes }
}

test('claims wait in their order, so that small ones do not hold up a large one forever', async () => {
  const { budget, changes } = budgetOf(12)
  const [one, other, third] = [holderIn(budget), holderIn(budget), holderIn(budget)]
  expect(await one.claim('A', 6)).toBe(true)
  const granted: string[] = []
  const large = other.claim('B', 10).then(() => granted.push('B'))
  const small = third.claim('C', 3).then(() => granted.push('C'))
  expect(budget.waits).toEqual([
    { id: 'B', text: 'Waiting for 10.0 GB of memory: the run A holds 6.0 GB.' },
    { id: 'C', text: 'Waiting for 3.0 GB of memory: the run A holds 6.0 GB, the run B waits for 10.0 GB.' },
  ])
  budget.free(one.holder)
  await large
  expect(granted).toEqual(['B'])
  expect(budget.waits).toEqual([{ id: 'C', text: 'Waiting for 3.0 GB of memory: the run B holds 10.0 GB.' }])
  budget.free(other.holder)
  await small
  expect([granted, budget.waits, changes()]).toEqual([['B', 'C'], [], 4])
})

test('a claim that exceeds the whole budget is granted alone, and a process asks for more without losing what it holds', async () => {
  const { budget } = budgetOf(12)
  const [one, other] = [holderIn(budget), holderIn(budget)]
  expect(await one.claim('A', 20)).toBe(true)
  expect(await other.claim('B', 1, false)).toBe(false)
  expect(await one.claim('A', 8)).toBe(true)
  expect(await other.claim('B', 2)).toBe(true)
  expect(await other.claim('B', 5, false)).toBe(false)
  expect(await one.claim('A', 10, false)).toBe(true)
})

test('a process that gives its memory back lets others go ahead while it is busy with something else', async () => {
  const { budget } = budgetOf(12)
  const [one, other] = [holderIn(budget), holderIn(budget)]
  await one.claim('A', 8)
  const waiting = other.claim('B', 6)
  expect(budget.waits).toHaveLength(1)
  expect(await one.claim('A', 0, false)).toBe(true)
  expect([await waiting, budget.waits]).toEqual([true, []])
})

test('idle processes are ended for a claim, but only if that makes enough room', async () => {
  const { budget } = budgetOf(12)
  const [idle, busy, other, next] = [holderIn(budget), holderIn(budget), holderIn(budget), holderIn(budget)]
  const ended = () => [idle, busy, other].map(({ holder }) => holder.ended)
  const holdAll = async () => {
    for (const [at, { claim }] of [idle, busy, other].entries()) await claim('ABC'.charAt(at), 4)
  }
  await holdAll()
  idle.holder.isIdle = true
  other.holder.isIdle = true
  const large = next.claim('D', 10)
  expect([ended(), budget.waits]).toEqual([[0, 0, 0], [{ id: 'D', text: 'Waiting for 10.0 GB of memory: the run B holds 4.0 GB.' }]])
  busy.holder.isIdle = true
  budget.review()
  expect(budget.waits[0]?.text).toBe('Waiting for 10.0 GB of memory: an idle model is being closed.')
  expect([await large, ended()]).toEqual([true, [1, 1, 1]])
  budget.free(next.holder)

  await holdAll()
  expect([await next.claim('E', 6), ended()]).toEqual([true, [2, 2, 1]])
})

const task = (options: Record<string, unknown>): ComputeTask => ({
  kind: 'run',
  request: { model: 'm', method: '2ssp', amount: { sparsity: 0.5 }, options, seed: 0, measures: [], backend: 'auto' },
})

test('what waits is cancelled at once, and goes ahead when the process that holds the memory dies', async () => {
  const folder = scratchOfTest('memory')
  const until = join(folder, 'let-go')
  const { budget } = budgetOf(10)
  const open = () =>
    new ComputeHost({ command: fakeCompute, environment: process.env as Record<string, string>, tensorFolder: folder, memory: budget })
  await using hosts = Object.assign([open(), open()] as const, {
    async [Symbol.asyncDispose]() {
      await Promise.all(hosts.map((host) => host.close()))
    },
  })
  const perform = (host: ComputeHost, title: string, options: Record<string, unknown>) =>
    host.perform(task(options), { claimant: { id: title, title: `the run ${title}` } })
  const waits = (title: string) => eventually(() => budget.waits.find(({ id }) => id === title), `${title} to wait`)

  let begun = ''
  const dying = hosts[0].perform(task({ claims: 8e9, waitAt: 1, until, at: 1, does: 'exit' }), {
    claimant: { id: 'A', title: 'the run A' },
    onOutput: (text) => (begun += text),
  })
  await eventually(() => begun.includes('begins'), 'the first run')
  const cancelled = perform(hosts[1], 'B', { claims: 5e9 })
  expect((await waits('B')).text).toBe('Waiting for 5.0 GB of memory: the run A holds 8.0 GB.')
  cancelled.cancel()
  expect(await cancelled.result.catch(toErrorMessage)).toMatchObject({ code: 'cancelled' })
  // An idle process was not killed, so the wait ended by itself.
  expect([hosts[1].status, budget.waits]).toEqual(['idle', []])

  const waited: boolean[] = []
  const next = hosts[1].perform(task({ claims: 5e9 }), {
    claimant: { id: 'C', title: 'the run C' },
    onMemoryWait: (waiting) => void waited.push(waiting),
  })
  await waits('C')
  writeFileSync(until, '')
  expect(await dying.result.catch(toErrorMessage)).toMatchObject({ code: 'internal' })
  expect(await next.result).toMatchObject({ method: '2ssp' })
  expect(budget.waits).toEqual([])
  expect(waited).toEqual([true, false])
})
