import { resolve } from 'node:path'
import { type ClusterProfile, clusterCounts, emptyProfile } from '#contract/clusters/clusters.ts'
import { printJson, printTable } from './output/print.ts'
import { commonFlags, commonHelp, readCount, readFlagFile, readFlags } from './read-flags.ts'
import { commandOf, type Verb } from './run-command.ts'
import { withWorkbench } from './with-workbench.ts'

const help = `espalier cluster VERB

Manages the Slurm clusters that can compute runs. To use one, choose it when you create runs in the workbench or over
HTTP, or give --executor NAME.

  espalier cluster list
  espalier cluster add NAME --folder FOLDER [flags]
  espalier cluster check NAME     tests everything that runs need on the cluster, with a job on a node
  espalier cluster script NAME    prints the batch script that runs would be submitted with
  espalier cluster remove NAME

  --folder FOLDER      a folder that all nodes see under the same path, and this machine too unless --copy is given
  --host HOST          a host from your ssh configuration, if Slurm's commands are not on this machine
  --copy               copy models, requests and results with rsync over ssh, if this machine does not see the folder
  --program PATH       the espalier command on the nodes (default: this installation)
  --partition TEXT, --account TEXT, --time TEXT, --memory TEXT, --gpus N, --cpus N
                       Slurm options of the same names; the cluster's defaults apply to those left out
  --lines FILE         lines for the batch script: #SBATCH options, module load, …
${commonHelp}`

const flags = {
  ...commonFlags,
  folder: { type: 'string', default: '' },
  host: { type: 'string', default: '' },
  copy: { type: 'boolean', default: false },
  program: { type: 'string', default: '' },
  partition: { type: 'string', default: '' },
  account: { type: 'string', default: '' },
  time: { type: 'string', default: '' },
  memory: { type: 'string', default: '' },
  gpus: { type: 'string' },
  cpus: { type: 'string' },
  lines: { type: 'string' },
} as const

const list: Verb = async (parameters) => {
  const { values } = readFlags(parameters, commonFlags, { least: 0, most: 0, name: '' })
  return printProfiles(await withWorkbench(values, ({ call }) => call('clusters.list', {})), values.json)
}

const add: Verb = async (parameters) => {
  const { values, words } = readFlags(parameters, flags, { least: 1, most: 1, name: 'The cluster’s name' })
  const { folder, host, program, partition, account, time, memory } = values
  const countOf = (name: keyof typeof clusterCounts) => {
    const { least, most } = clusterCounts[name]
    return values[name] === undefined ? emptyProfile[name] : readCount(values[name], `--${name}`, most, least)
  }
  const profile: ClusterProfile = {
    ...emptyProfile,
    ...{ host, program, partition, account, time, memory },
    name: words[0] as string,
    copies: values.copy,
    folder: host === '' && folder !== '' ? resolve(folder) : folder,
    gpus: countOf('gpus'),
    cpus: countOf('cpus'),
    lines: values.lines === undefined ? '' : (await readFlagFile(values.lines, '--lines')).trimEnd(),
  }
  return printProfiles(await withWorkbench(values, ({ call }) => call('clusters.save', { cluster: profile })), values.json)
}

const remove: Verb = async (parameters) => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1, name: 'The cluster’s name' })
  return printProfiles(await withWorkbench(values, ({ call }) => call('clusters.remove', { name: words[0] as string })), values.json)
}

function printProfiles(profiles: readonly ClusterProfile[], asJson: boolean): number {
  if (asJson) printJson(profiles)
  else
    printTable(
      ['NAME', 'HOST', 'FOLDER', 'PARTITION', 'TIME', 'GPUS', 'CPUS', 'MEMORY'],
      profiles.map(({ name, host, folder, partition, time, gpus, cpus, memory }) => [
        name,
        host,
        folder,
        partition,
        time,
        gpus,
        cpus,
        memory,
      ]),
    )
  return 0
}

const script: Verb = async (parameters) => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1, name: 'The cluster’s name' })
  return withWorkbench(values, async ({ call }) => {
    const profile = (await call('clusters.list', {})).find(({ name }) => name === words[0])
    if (!profile) return call('clusters.check', { name: words[0] as string }).then(() => 1)
    console.log((await call('clusters.script', { cluster: profile })).script)
    return 0
  })
}

/** Exits with 1 if a check fails. */
const check: Verb = async (parameters) => {
  const { values, words } = readFlags(parameters, commonFlags, { least: 1, most: 1, name: 'The cluster’s name' })
  const findings = await withWorkbench(values, ({ call }) => call('clusters.check', { name: words[0] as string }))
  if (values.json) printJson(findings)
  else
    printTable(
      ['CHECK', 'PASSED', 'DETAILS'],
      findings.map(({ what, works, found }) => [what, works === null ? '-' : works ? 'yes' : 'NO', found]),
    )
  return findings.some(({ works }) => works === false) ? 1 : 0
}

export const cluster = commandOf('cluster', help, { list, add, check, script, remove })
