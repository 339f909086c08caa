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
import type { BackendName } from '#contract/runs/run-request.ts'
import { version } from '#contract/version.ts'
import { schemaVersion } from '#db/migrate.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { askDesk } from './ask-desk.ts'
import { currentSettings, secrets } from './current-settings.ts'

const lastTest = 'last self-test'
/** A result stored by an earlier version may lack fields and is then ignored. */
const keptTest = selfTest.extend({ at: moment })
/** Loading a large runtime from a slow disk takes minutes. */
const probeSeconds = 300

/** Reports the runtime, devices and speed of this machine. A process of its own finds them, so that runs are not disturbed. */
export class EngineService extends Service {
  #report: EngineReport | null = null
  #probedAt: number | null = null
  #problem: string | null = null
  #probing: Promise<void> | null = null
  #wasTimed = false

  readonly calls: Calls<'engine'> = {
    'engine.get': async ({ probe: wanted }) => {
      if (wanted || (!this.#report && !this.#problem)) await this.#probe()
      return this.#state()
    },
    'engine.selfTest': ({ backend }) => this.#test(backend),
    'engine.diagnostics': () => ({ text: this.#diagnose() }),
  }

  /**
   * Returns the rates of this machine, or null while they are unknown. The first call while no run is in progress starts the self-test,
   * which notifies listeners when it ends.
   */
  rates(): MachineRate[] | null {
    const { selfTest: kept } = this.#state()
    if (kept) return kept.rates
    if (!this.#wasTimed && this.history.queue.running().length === 0) {
      this.#wasTimed = true
      void this.#test('auto').catch(() => undefined)
    }
    return null
  }

  #state(): EngineState {
    return {
      status: this.#probing !== null ? 'probing' : this.#report ? 'ready' : this.#problem ? 'failed' : 'unknown',
      report: this.#report,
      probedAt: this.#probedAt,
      selfTest: keptTest.safeParse(this.history.settings.get(lastTest)).data ?? null,
      problem: this.#problem,
      memory: { totalBytes: totalmem(), freeBytes: freemem() },
      processors: cpus().length,
    }
  }

  #announce(): void {
    this.parts.emit({ name: 'engine changed', data: { engine: this.#state() } })
  }

  async #probe(): Promise<void> {
    this.#probing ??= this.#ask().finally(() => {
      this.#probing = null
    })
    this.#announce()
    await this.#probing
    this.#announce()
  }

  async #ask(): Promise<void> {
    const { tester } = this.parts
    try {
      this.#report = engineReport.parse(await askDesk(tester, { kind: 'probe' }, undefined, probeSeconds))
      this.#probedAt = Date.now()
      this.#problem = null
    } catch (thrown) {
      this.#problem = toErrorMessage(thrown).message
    }
    // The runtime takes about 400 MB.
    tester.release()
  }

  async #test(backend: BackendName): Promise<SelfTest> {
    const { tester } = this.parts
    const result = selfTest.parse(await askDesk(tester, { kind: 'self-test', backend }, undefined, probeSeconds))
    tester.release()
    const at = Date.now()
    this.history.writes.later('engine', () => {
      this.history.settings.set(lastTest, { ...result, at })
      this.#announce()
    })
    return result
  }

  #diagnose(): string {
    const { history } = this
    const lines = {
      Espalier: version,
      platform: `${process.platform} ${process.arch} ${release()}`,
      Node: process.version,
      Electron: process.versions.electron ?? 'no',
      processors: `${cpus().length} x ${cpus()[0]?.model.trim() || 'unknown'}`,
      memory: `${Math.round(totalmem() / 1e6)} MB, ${Math.round(freemem() / 1e6)} MB free`,
      history: `schema ${schemaVersion(history.db)}, ${history.runs.count()} runs`,
      settings: JSON.stringify(currentSettings(this.parts)),
      engine: this.#report ? JSON.stringify(this.#report, null, 1) : (this.#problem ?? 'not queried yet'),
      'self-test': JSON.stringify(history.settings.get(lastTest) ?? null),
      devices: JSON.stringify(this.parts.queue.state().devices),
      'last problems': history.runs.lastProblems(5).join('\n'),
    }
    const text = Object.entries(lines)
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n')
    return secrets(this.parts).reduce((kept, secret) => kept.replaceAll(secret, '…'), text)
  }
}
