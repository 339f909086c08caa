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
