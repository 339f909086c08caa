import { cpus, freemem, release, totalmem } from 'node:os'
import { toErrorMessage } from '#contract/errors.ts'
import { moment } from '#contract/identifiers.ts'
import {
  type EngineReport,
  type EngineState,
  engineReport,
  type MachineRate,
  type SelfTest,
  selfTest,
} from '#contract/machine/engine-state.ts'
import { version } from '#contract/version.ts'
import { schemaVersion } from '#db/migrate.ts'
import type { Context, Service } from '../context.ts'
import type { AskRates } from '../experiments/estimates.ts'
import { askDesk } from './ask-desk.ts'
import { currentSettings, secrets } from './settings.ts'

const lastTest = 'last self-test'
/** A result stored by an earlier version may lack fields and is then ignored. */
const keptTest = selfTest.extend({ at: moment })
/** Loading a large runtime from a slow disk takes minutes. */
const probeSeconds = 300

/** The compute process's findings about this machine. Queried on the desk so that runs are not disturbed. */
export function engineService(context: Context): Service<'engine'> & { rates: AskRates } {
  const { history, desk, emit } = context
  let report: EngineReport | null = null
  let problem: string | null = null
  let probing: Promise<void> | null = null

  function state(): EngineState {
    return {
      status: probing !== null ? 'probing' : report ? 'ready' : problem ? 'failed' : 'unknown',
      report,
      selfTest: keptTest.safeParse(history.settings.get(lastTest)).data ?? null,
      problem,
      memory: { totalBytes: totalmem(), freeBytes: freemem() },
      processors: cpus().length,
    }
  }

  function told(): EngineState {
    const engine = state()
    emit({ name: 'engine changed', data: { engine } })
    return engine
  }

  async function ask(): Promise<void> {
    try {
      report = engineReport.parse(await askDesk(desk, { kind: 'probe' }, undefined, probeSeconds))
      problem = null
    } catch (thrown) {
      problem = toErrorMessage(thrown).message
    }
    // The runtime takes some 400 MB, which the desk does not need for other questions.
    desk.release()
  }

  async function probe(): Promise<void> {
    probing ??= ask().finally(() => {
      probing = null
    })
    told()
    await probing
    told()
  }

  let wasTimed = false

  /** The rates of this machine. On first use the machine is timed once it is idle, and listeners are notified. */
  function rates(): MachineRate[] | null {
    const { selfTest } = state()
    if (selfTest) return selfTest.rates
    if (!wasTimed && history.queue.running().length === 0) {
      wasTimed = true
      void test('auto').catch(() => undefined)
    }
    return null
  }

  async function test(backend: Parameters<Service<'engine'>['engine.selfTest']>[0]['backend']): Promise<SelfTest> {
    const result = selfTest.parse(await askDesk(desk, { kind: 'self-test', backend }, undefined, probeSeconds))
    desk.release()
    history.settings.set(lastTest, { ...result, at: Date.now() })
    told()
    return result
  }

  function diagnose(): string {
    const lines = {
      Espalier: version,
      platform: `${process.platform} ${process.arch} ${release()}`,
      Node: process.version,
      Electron: process.versions.electron ?? 'no',
      processors: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
      memory: `${Math.round(totalmem() / 1e6)} MB, ${Math.round(freemem() / 1e6)} MB free`,
      history: `schema ${schemaVersion(history.db)}, ${history.runs.count()} runs`,
      settings: JSON.stringify(currentSettings(context)),
      engine: report ? JSON.stringify(report, null, 1) : (problem ?? 'not queried yet'),
      'self-test': JSON.stringify(history.settings.get(lastTest) ?? null),
      devices: JSON.stringify(context.queue.state().devices),
      'last problems': history.runs.lastProblems(5).join('\n'),
    }
    const text = Object.entries(lines)
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n')
    return secrets(context).reduce((kept, secret) => kept.replaceAll(secret, '…'), text)
  }

  return {
    rates,
    async 'engine.get'({ probe: wanted }) {
      if (wanted || (!report && !problem)) await probe()
      return state()
    },
    'engine.selfTest': ({ backend }) => test(backend),
    'engine.diagnostics': () => ({ text: diagnose() }),
  }
}
