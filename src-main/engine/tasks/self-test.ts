import type { SelfTest } from '#contract/machine/engine-state.ts'
import type { BackendName } from '#contract/runs/run-request.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { loadBackend } from '#engine/backend/backend.ts'
import { measureRate } from '#engine/backend/probe.ts'
import { measureRates } from '#engine/estimate/machine-rates.ts'
import { checkOperations } from '#engine/model/self-test.ts'

/** Opens a runtime even if its results are wrong, checks the results and times it. */
export async function runSelfTest(name: BackendName): Promise<SelfTest> {
  const start = performance.now()
  await loadBackend(name)
  const { name: backend, title: device } = activeBackend()
  const checked = checkOperations()
  const gigaflopsPerSecond = await measureRate()
  const rates = await measureRates()
  return { backend, device, ...checked, gigaflopsPerSecond, rates, seconds: (performance.now() - start) / 1000 }
}
