import type { Listener } from '#contract/api.ts'
import { protocolVersion } from '#contract/machine/settings.ts'
import { version } from '#contract/version.ts'
import { makeBackup } from '#db/backups.ts'
import { historyFolders, openHistory } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { migrations } from '#db/migrate.ts'
import { ValueStore, type WriteFile } from '#db/values.ts'
import { type HubOptions, openHub } from '#hub/hub.ts'
import type { ClusterTimings } from '#jobs/cluster/cluster.ts'
import { Clusters } from '#jobs/cluster/clusters.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { ComputeHost, type HostTimings } from '#jobs/compute/compute-host.ts'
import type { ComputeCommand } from '#jobs/compute/compute-process.ts'
import { hermeticEnvironment } from '#jobs/compute/environment.ts'
import { MemoryBudget } from '#jobs/compute/memory-budget.ts'
import type { FetchFile } from '#jobs/run-attempt.ts'
import { RunLogs } from '#jobs/run-log.ts'
import { RunQueue } from '#jobs/run-queue.ts'
import { type Device, processorSlots, ThisMachine } from '#jobs/this-machine.ts'
import { machineBudget } from '#runtime/machine-memory.ts'
import { sampleModel } from '#runtime/resources.ts'
import { ClustersService, clusterProfiles, clusterProgram } from './clusters/clusters.ts'
import { CompareService } from './comparison/compare.ts'
import type { Context, Handlers } from './context.ts'
import { TextsService } from './data/texts.ts'
import { Estimates } from './experiments/estimates.ts'
import { ExperimentsService } from './experiments/experiments.ts'
import { BenchService, ExportsService } from './exports/exports.ts'
import { JudgingsService } from './judging/judgings.ts'
import { CatalogueService } from './machine/catalogue.ts'
import { currentSettings, defaultIdleMinutes, hubOptions } from './machine/current-settings.ts'
import { EngineService } from './machine/engine.ts'
import { HistoryService } from './machine/history.ts'
import { SettingsService } from './machine/settings.ts'
import { WatchOthers } from './machine/watch-others.ts'
import { foldersOf } from './models/folders.ts'
import { Library } from './models/library.ts'
import { ModelsService } from './models/models.ts'
import { pathGate } from './models/path-gate.ts'
import { Transfers } from './models/transfers.ts'
import { PlaygroundService } from './playground/playground.ts'
import { TranscriptsService } from './playground/transcripts.ts'
import { ReportsService } from './report/report.ts'
import { BulkActions } from './runs/bulk-actions.ts'
import { RunRemoval } from './runs/run-removal.ts'
import { QueueService, RunsService, ViewsService } from './runs/runs.ts'
import type { Parts } from './service.ts'

export interface WorkbenchOptions {
  computeCommand?: ComputeCommand
  /** Replaces the detected GPUs and the configured slots. */
  devices?: readonly Device[] | undefined
  timings?: Partial<HostTimings>
  clusterTimings?: Partial<ClusterTimings>
  /** False for a process that only executes its own runs, with `runNow`. */
  worksQueue?: boolean
  /** A model to add to the library when it opens. Default: the sample model from the resources; null for none. */
  bundledModel?: string | null
  /** Overrides the hub settings. */
  hub?: HubOptions
  /** Tests replace this with a writer that fails like a full disk. */
  writeFile?: WriteFile
  /** Asks the user whether a new history may begin beside the stored values of another one. Without it, that is refused. */
  mayBegin?: (question: string) => Promise<boolean>
  /** How long a call waits for a history that another program has locked. A command waits for as long as it takes, and for a full disk too. */
  patience?: 'command'
  /** How often a history that cannot be written is tried again. */
  retryMilliseconds?: number
  /** Called when the history cannot be written, with the reason, and with null when it can be again. */
  onObstacle?: (message: string | null) => void
  /** Ends a start that waits for the history. */
  signal?: AbortSignal
  /** Folders that models may be written to, besides those in the settings. */
  writable?: readonly string[]
}

/** How long closing waits for a history that cannot be written. The next start finds what is missing and cleans up. */
const closingMilliseconds = 3000

type SettledOptions = WorkbenchOptions & { folder: string; gpus: readonly Device[]; emit: Listener; besideValues: boolean }

/** Opens a data folder and connects the services. */
export function compose(options: SettledOptions, restore: Handlers['history.restore']) {
  const context = openContext(options)
  const { history, queue } = context
  const transfers = new Transfers(context)
  const library = new Library(context, transfers)
  const watch = new WatchOthers(context, transfers)
  const bundled = options.bundledModel === undefined ? sampleModel() : options.bundledModel
  library.purgeSoon()
  if (bundled !== null) library.registerBundled(bundled)
  return {
    handlers: { ...callsOf(context, library, transfers, bundled), 'history.restore': restore } satisfies Handlers as Handlers,
    gate: context.gate,
    history,
    runNow: (id: string) => queue.runNow(id),
    /** How many other processes have the history open. */
    others: () => history.owners.others(context.owner, Date.now()),
    async close(backup?: string): Promise<void> {
      if (!history.db.open) return
      watch.stop()
      await transfers.close()
      await queue.close()
      await Promise.all([context.desk, context.tester, context.playground, context.exporter].map((host) => host.close()))
      // Callers that waited for these processes get their errors before the history closes.
      await new Promise((resolve) => setImmediate(resolve))
      if (backup !== undefined) makeBackup(history.db, history.folders.backups, backup)
      history.writes.later('closing', () => history.owners.remove(context.owner))
      await history.writes.clear(closingMilliseconds).catch(() => undefined)
      history.close()
    },
  }
}

type Needs = Pick<Context, 'history' | 'folders' | 'hub'>

function openContext(options: SettledOptions): Context {
  const { folder, emit, writeFile, gpus, worksQueue = true, hub = {}, writable = [], besideValues, onObstacle, retryMilliseconds } = options
  const history = openHistory(folder, new ValueStore(historyFolders(folder).values, writeFile), migrations, {
    besideValues,
    retryMilliseconds,
  })
  const { writes } = history
  writes.onChange(() => onObstacle?.(writes.obstacle?.message ?? null))
  const folders = foldersOf(folder)
  const owner = newId('owner')
  history.writes.attempt(() => history.owners.register(owner, Date.now()))
  const logs = new RunLogs(folders.logs)
  const changed = (numbers: readonly number[]) => queue.tellRuns(numbers)
  const memoryLimit = (): number | null => {
    let bytes: number | null = null
    if (history.db.open)
      history.writes.guard(() => {
        bytes = currentSettings({ history, folders }).memoryBytes
      })
    return bytes
  }
  const memory = new MemoryBudget(
    () => memoryLimit() ?? machineBudget(),
    () => history.db.open && changed([]),
  )
  const hostFor = hostsOf(options, { history, folders, hub }, memory)
  const devicesWith = (slots: number | null) => options.devices ?? [...gpus, ...processorSlots(slots, gpus.length)]
  const fetchFile = fetcherOf({ history, folders, hub })
  const resumesRuns = () => currentSettings({ history, folders }).resumeRuns
  const machine = new ThisMachine({
    ...{ history, logs, emit, owner, fetchFile, changed, memoryLimit, resumesRuns },
    devices: devicesWith(currentSettings({ history, folders }).cpuSlots),
    hostFor: (device) => hostFor(device, () => history.db.open && changed([])),
    ended: (number) => queue.noteEnd(number),
    freed: () => queue.work(),
  })
  const profiles = () => clusterProfiles(history)
  const clusters = new Clusters({ history, logs, emit, profiles, programFor: clusterProgram, timings: options.clusterTimings, changed })
  const queue = new RunQueue({ history, emit, owner, machine, clusters, memory, worksQueue, resumesRuns })
  const gate = pathGate(() => {
    const { exports, models } = currentSettings({ history, folders }).folders
    return [exports, models, ...writable]
  })
  // A command does one thing after another, so one process serves all its needs.
  const only = worksQueue ? undefined : machine.firstHost
  const beside = () => only ?? hostFor(gpus[0] ?? options.devices?.[0])
  const shareProcessor = (slots: number | null) => machine.setDevices(devicesWith(slots))
  const [desk, tester, playground, exporter] = [beside(), beside(), beside(), beside()]
  return { history, folders, gate, queue, logs, owner, hub, emit, desk, tester, playground, exporter, fetchFile, memory, shareProcessor }
}

/** Returns a function that makes a compute host for a device. The host starts its process on demand. */
function hostsOf({ computeCommand, timings, worksQueue = true }: SettledOptions, needs: Needs, memory: MemoryBudget) {
  const command = computeCommand ?? defaultComputeCommand()
  // A command does one thing after another, so the process that answered a question need not stay alive during the run.
  const idleMilliseconds = () => {
    if (!needs.history.db.open) return 0
    let minutes = defaultIdleMinutes
    needs.history.writes.guard(() => {
      minutes = currentSettings(needs).idleMinutes
    })
    return worksQueue ? minutes * 60_000 : 1000
  }
  return (device: Device | undefined, onChange = () => {}) =>
    new ComputeHost({
      command,
      environment: hermeticEnvironment(process.env, device?.environment),
      tensorFolder: needs.history.values.tensorFolder,
      ...(timings ? { timings } : {}),
      memory,
      idleMilliseconds,
      onChange,
    })
}

function fetcherOf(needs: Needs): FetchFile {
  return async (file, signal, report) => (await openHub(hubOptions(needs))).fetchFile(file, { signal, report })
}

function callsOf(context: Context, library: Library, transfers: Transfers, bundled: string | null): Omit<Handlers, 'history.restore'> {
  const { history } = context
  const estimates = new Estimates(context, library, () => engine.rates())
  const parts: Parts = { ...context, library, transfers, estimates, bulk: new BulkActions(context), removal: new RunRemoval(context) }
  const engine = new EngineService(parts)
  const comparing = new CompareService(parts).calls
  const judging = new JudgingsService(parts).calls
  return {
    'workbench.get': () => ({
      version,
      protocol: protocolVersion,
      platform: process.platform,
      models: history.models.list().length,
      runs: history.runs.count(),
      sampleModel: bundled,
    }),
    ...transfers.calls,
    ...new ModelsService(parts).calls,
    ...new CatalogueService(parts).calls,
    ...new ExperimentsService(parts).calls,
    ...new RunsService(parts).calls,
    ...new ExportsService(parts).calls,
    ...new BenchService(parts).calls,
    ...new QueueService(parts).calls,
    ...new ClustersService(parts).calls,
    ...new ViewsService(parts).calls,
    ...comparing,
    ...new TextsService(parts).calls,
    ...new PlaygroundService(parts).calls,
    ...new TranscriptsService(parts).calls,
    ...judging,
    ...new ReportsService(parts, { ...comparing, ...judging }).calls,
    ...new SettingsService(parts).calls,
    ...engine.calls,
    ...new HistoryService(parts).calls,
  }
}
