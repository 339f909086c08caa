import type { Listener } from '#contract/api.ts'
import { protocolVersion } from '#contract/machine/settings.ts'
import { version } from '#contract/version.ts'
import { makeBackup } from '#db/backups.ts'
import { historyFolders, openHistory } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { ValueStore, type WriteFile } from '#db/values.ts'
import { type HubOptions, openHub } from '#hub/hub.ts'
import type { ClusterTimings } from '#jobs/cluster/cluster.ts'
import { Clusters } from '#jobs/cluster/clusters.ts'
import { defaultComputeCommand } from '#jobs/compute-command.ts'
import { ComputeHost, type HostTimings } from '#jobs/compute-host.ts'
import type { ComputeCommand } from '#jobs/compute-process.ts'
import { type Device, processorSlots } from '#jobs/devices.ts'
import { hermeticEnvironment } from '#jobs/environment.ts'
import type { FetchFile } from '#jobs/run-attempt.ts'
import { runLogs } from '#jobs/run-log.ts'
import { RunQueue } from '#jobs/run-queue.ts'
import { ThisMachine } from '#jobs/this-machine.ts'
import { sampleModel } from '#runtime/resources.ts'
import { clusterProfiles, clusterProgram, clustersService } from './clusters/clusters.ts'
import { CompareService } from './comparison/compare.ts'
import type { Context, Handlers } from './context.ts'
import { textsService } from './data/texts.ts'
import { Estimates } from './experiments/estimates.ts'
import { experimentsService } from './experiments/experiments.ts'
import { ExportsService } from './exports/exports.ts'
import { judgingsService } from './judging/judgings.ts'
import { catalogueService } from './machine/catalogue.ts'
import { EngineService } from './machine/engine.ts'
import { currentSettings, hubOptions, settingsService } from './machine/settings.ts'
import { watchOthers } from './machine/watch-others.ts'
import { foldersOf } from './models/folders.ts'
import { Library } from './models/library.ts'
import { modelsService } from './models/models.ts'
import { pathGate } from './models/path-gate.ts'
import { Transfers } from './models/transfers.ts'
import { playgroundService } from './playground/playground.ts'
import { transcriptsService } from './playground/transcripts.ts'
import { reportsService } from './report/report.ts'
import { bulkActions } from './runs/bulk-actions.ts'
import { historyService } from './runs/history.ts'
import { queueService } from './runs/queue.ts'
import { runRemoval } from './runs/run-removal.ts'
import { runsService } from './runs/runs.ts'
import { viewsService } from './runs/views.ts'

export interface WorkbenchOptions {
  computeCommand?: ComputeCommand
  /** Replaces the detected GPUs and the configured slots. */
  devices?: readonly Device[] | undefined
  timings?: Partial<HostTimings>
  clusterTimings?: Partial<ClusterTimings>
  /** False for a process that only does its own runs, with `runNow`. */
  worksQueue?: boolean
  /** A model that is always in the library. Default: the one in the resources; null for none. */
  bundledModel?: string | null
  /** Overrides the hub settings. */
  hub?: HubOptions
  /** Tests replace this with a writer that fails like a full disk. */
  writeFile?: WriteFile
  /** Folders that models may be written to, besides those in the settings. */
  writable?: readonly string[]
}

export type SettledOptions = WorkbenchOptions & { folder: string; gpus: readonly Device[]; emit: Listener }

/** Opens a data folder and connects the services. */
export function compose(options: SettledOptions, restore: Handlers['history.restore']) {
  const context = openContext(options)
  const { history, queue } = context
  const transfers = new Transfers(context)
  const library = new Library(context, transfers)
  const watch = watchOthers(context, transfers)
  const bundled = options.bundledModel === undefined ? sampleModel() : options.bundledModel
  void library.purge(Date.now())
  if (bundled !== null) library.registerBundled(bundled)
  return {
    handlers: { ...callsOf(context, library, transfers, bundled), 'history.restore': restore } satisfies Handlers as Handlers,
    gate: context.gate,
    runNow: (id: string) => queue.runNow(id),
    /** How many other processes have the history open. */
    others: () => history.owners.others(context.owner, Date.now()),
    async close(backup?: string): Promise<void> {
      if (!history.db.open) return
      watch.stop()
      await transfers.close()
      await queue.close()
      await Promise.all([context.desk, context.playground, context.exporter].map((host) => host.close()))
      // Callers that waited for these processes get their errors before the history closes.
      await new Promise((resolve) => setImmediate(resolve))
      if (backup !== undefined) makeBackup(history.db, history.folders.backups, backup)
      history.owners.remove(context.owner)
      history.close()
    },
  }
}

function openContext(options: SettledOptions): Context {
  const { folder, emit, writeFile, gpus, computeCommand, timings, worksQueue = true, hub = {}, writable = [] } = options
  const history = openHistory(folder, writeFile && new ValueStore(historyFolders(folder).values, writeFile))
  const owner = newId('owner')
  history.owners.register(owner, Date.now())
  const folders = foldersOf(folder)
  const gate = pathGate(() => {
    const { exports, models } = currentSettings({ history, folders }).folders
    return [exports, models, ...writable]
  })
  const logs = runLogs(folders.logs)
  // A command does one thing after another, so an answered question's process need not stay beside the run.
  const idleMilliseconds = () => {
    if (!history.db.open) return 0
    return worksQueue ? currentSettings({ history, folders }).idleMinutes * 60_000 : 1000
  }
  const command = computeCommand ?? defaultComputeCommand()
  const hostFor = (device: Device | undefined, onChange = () => {}) =>
    new ComputeHost({
      command,
      environment: hermeticEnvironment(process.env, device?.environment),
      tensorFolder: history.values.tensorFolder,
      ...(timings ? { timings } : {}),
      idleMilliseconds,
      onChange,
    })
  const fetchFile: FetchFile = async (file, signal, report) =>
    (await openHub(hubOptions({ history, folders, hub }))).fetchFile(file, { signal, report })
  const devicesWith = (slots: number | null) => options.devices ?? [...gpus, ...processorSlots(slots, gpus.length)]
  const devices = devicesWith(currentSettings({ history, folders }).cpuSlots)
  const machine = new ThisMachine({
    history,
    logs,
    emit,
    owner,
    devices,
    hostFor: (device) => hostFor(device, () => history.db.open && queue.tellRuns([])),
    fetchFile,
    changed: (numbers) => queue.tellRuns(numbers),
    freed: () => queue.work(),
  })
  const clusters = new Clusters({
    history,
    logs,
    emit,
    profiles: () => clusterProfiles(history),
    programFor: clusterProgram,
    timings: options.clusterTimings,
    changed: (numbers) => queue.tellRuns(numbers),
  })
  const queue = new RunQueue({
    ...{ history, emit, owner, machine, clusters, worksQueue },
    resumesRuns: () => currentSettings({ history, folders }).resumeRuns,
  })
  // A command does one thing after another, so one process serves all its needs.
  const only = worksQueue ? undefined : machine.firstHost
  const beside = () => only ?? hostFor(gpus[0] ?? options.devices?.[0])
  const [desk, playground, exporter] = [beside(), beside(), beside()]
  const shareProcessor = (slots: number | null) => machine.setDevices(devicesWith(slots))
  return { history, folders, gate, queue, logs, owner, hub, emit, desk, playground, exporter, fetchFile, shareProcessor }
}

function callsOf(context: Context, library: Library, transfers: Transfers, bundled: string | null): Omit<Handlers, 'history.restore'> {
  const { history } = context
  const { catalogue, ...methods } = catalogueService(context)
  const removal = runRemoval(context)
  const bulk = bulkActions(context)
  const engine = new EngineService(context)
  const estimates = new Estimates(context, library, engine.rates)
  const comparing = new CompareService(history).calls
  const judging = judgingsService(context)
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
    ...modelsService(context, library),
    ...methods,
    ...experimentsService(context, { library, catalogue, removal, estimates, bulk }),
    ...runsService(context, library, removal, estimates, bulk),
    ...new ExportsService(context, library, transfers).calls,
    ...queueService(context, estimates),
    ...clustersService(context),
    ...viewsService(context),
    ...comparing,
    ...textsService(context, library),
    ...playgroundService(context, library),
    ...transcriptsService(context),
    ...judging,
    ...reportsService(context, { compare: comparing['compare.get'], judging: judging['judgings.result'] }),
    ...settingsService(context),
    ...engine.calls,
    ...historyService(context),
  }
}
