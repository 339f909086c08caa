import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { toErrorMessage } from '#contract/errors.ts'
import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { askDesk } from '#services/machine/ask-desk.ts'
import { fakeCompute } from '../../services/opened.ts'

const folder = mkdtempSync(join(tmpdir(), 'espalier-host-'))
const hosts: ComputeHost[] = []
afterEach(async () => {
  await Promise.all(hosts.splice(0).map((host) => host.close()))
  rmSync(folder, { recursive: true, force: true })
})

function openHost(): ComputeHost {
  const host = new ComputeHost({ command: fakeCompute, environment: process.env as Record<string, string>, tensorFolder: folder })
  hosts.push(host)
  return host
}

/** A task that never answers: its process blocks and receives nothing. */
const blocked: ComputeTask = {
  kind: 'run',
  request: {
    model: 'm',
    method: '2ssp',
    amount: { sparsity: 0.5 },
    options: { at: 1, does: 'block' },
    seed: 0,
    measures: [],
    backend: 'auto',
  },
}

test('a question that is not answered in time is given up, and the next one gets another process', async () => {
  const host = openHost()
  const late = await askDesk(host, blocked, undefined, 0.5).catch(toErrorMessage)
  expect(late).toMatchObject({ code: 'internal', message: expect.stringContaining('This took longer than 0.5 s') })
  expect(await askDesk(host, { kind: 'catalogue' })).toMatchObject({ methods: expect.anything() })
  expect(host.status).not.toBe('broken')
})

test('a question whose asker has left is given up at once, and those behind it are answered', async () => {
  const host = openHost()
  const leaving = new AbortController()
  const left = askDesk(host, blocked, leaving.signal).catch(toErrorMessage)
  const next = askDesk(host, { kind: 'catalogue' })
  setTimeout(() => leaving.abort(), 300)
  expect(await left).toMatchObject({ code: 'cancelled' })
  expect(await next).toMatchObject({ methods: expect.anything() })
})

test('a job that is cancelled while it waits ends at once, and is not begun later', async () => {
  const host = openHost()
  const first = host.perform(blocked)
  const leaving = new AbortController()
  const events: unknown[] = []
  const waiting = host.perform(blocked, { signal: leaving.signal, onEvent: (event) => events.push(event) })
  const ended = waiting.result.catch(toErrorMessage)
  leaving.abort()
  expect(await Promise.race([ended, first.result.catch(() => 'the first job ended')])).toMatchObject({ code: 'cancelled' })
  first.cancel()
  await expect(first.result).rejects.toMatchObject({ code: 'cancelled' })
  expect(await askDesk(host, { kind: 'catalogue' })).toMatchObject({ methods: expect.anything() })
  expect(events).toEqual([])
})

test('a task that is out of its schema is refused in words, and those behind it are answered', async () => {
  const host = openHost()
  const columns = [{ plan: { blocks: [{ attention: 'kept', mlp: { kept: [-1] } }] }, fingerprint: null }]
  const request = { model: 'm', columns, prompts: [{ text: 'x' }], settings: {}, backend: 'auto' } as never
  const error = await askDesk(host, { kind: 'generate', request }).catch(toErrorMessage)
  expect(error).toMatchObject({ code: 'invalid', message: expect.stringMatching(/^Part of what this job needs is damaged: .*it must be /) })
  expect(await askDesk(host, { kind: 'catalogue' })).toMatchObject({ methods: expect.anything() })
})
