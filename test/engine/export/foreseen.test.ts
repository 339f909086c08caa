import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { checkSave } from '#engine/export/check-save.ts'
import { formats } from '#engine/export/index.ts'
import { methods } from '#engine/pruning/registry.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const home = scratchFolder('foreseen')
beforeAll(async () => {
  await openBackend('tensorflow')
  const windows = (await referenceWindows('calibration')).slice(0, 12).map((window) => [...window.subarray(0, 48)])
  await writeFile(join(home, 'windows.json'), JSON.stringify(windows))
})

const evolution = { generations: 2, offspring: 4, startStates: 2, windows: 2, firstWindows: 1, finalWindows: 2, finalists: 2 }
const few = (method: string) => (method.startsWith('evopress') ? evolution : { windows: 2 })

describe('what formats would weigh', () => {
  it.each([...Object.keys(methods).map((method) => [method, {}] as const), ['reap', { budget: 'free' }] as const])(
    'before %s %j decides holds what they weigh afterwards, and no format fails unforeseen',
    async (method, options) => {
      const model = await referenceModel(method === 'reap' ? 'qwen3_moe' : 'stories260k')
      // Most rows of this small vocabulary always stay.
      const sparsity = { reap: 0.25, vocabulary: 0.02 }[method] ?? 0.4
      const asked = { model, method, amount: { sparsity }, options: { ...few(method), ...options } }
      const calibration = { source: join(home, 'windows.json'), sequenceLength: 48, windows: 12 }
      const { plan, measures } = await executeRun({ ...asked, seed: 0, calibration, measures: [], backend: 'tensorflow' }, hostIn(home))
      expect(measures.some(({ dataset }) => dataset === 'met by one token')).toBe(method === 'reap')
      const every = { formats: Object.keys(formats), ggufTypes: ['F16', 'Q8_0'] }
      const before = await checkSave({ ...asked, plan: null, ...every })
      const after = await checkSave({ ...asked, plan, ...every })
      expect(after.some(({ problem }) => problem === null)).toBe(true)
      for (const [at, { format, type, bytes, keyValueBytes, problem }] of after.entries()) {
        const foreseen = before[at]
        const what = `${format} ${type}`
        expect(foreseen, what).toMatchObject({ format, type })
        if (problem !== null || bytes === null || keyValueBytes === null) {
          expect(foreseen?.problem ?? foreseen?.perhaps, what).toBeDefined()
          continue
        }
        expect(foreseen?.problem, what).toBe(null)
        // Tokens and merges have texts of any length.
        const slack = method === 'vocabulary' ? 0.02 : 0
        expect(bytes, what).toBeLessThanOrEqual((1 + slack) * (foreseen?.bytes ?? 0))
        expect(bytes, what).toBeGreaterThanOrEqual((1 - slack) * (foreseen?.least?.bytes ?? foreseen?.bytes ?? 0))
        expect(keyValueBytes, what).toBeLessThanOrEqual(foreseen?.keyValueBytes ?? 0)
        expect(keyValueBytes, what).toBeGreaterThanOrEqual(foreseen?.least?.keyValueBytes ?? foreseen?.keyValueBytes ?? 0)
      }
    },
  )
})
