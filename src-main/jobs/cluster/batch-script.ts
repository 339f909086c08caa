import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import { type Command, quoteWord } from './cluster-shell.ts'

/** A job of Slurm that computes several runs, each in a task of its own. */
export interface Batch {
  /** Names the job among the user's. */
  submission: string
  runs: readonly string[]
  program: Command
}

export const jobName = (submission: string): string => `espalier-${submission}`

/**
 * The batch script of some runs. Names of models and texts are not in it: they stand in the request files. All words in it are ids or
 * were checked with the profile, but for the profile's own lines, which stand as they are.
 */
export function batchScript(profile: ClusterProfile, { submission, runs, program }: Batch): string {
  const head = { 'job-name': jobName(submission), array: `0-${runs.length - 1}`, output: `${profile.folder}/logs/%A_%a.txt` }
  return assemble(profile, head, [
    `runs=(${runs.map(quoteWord).join(' ')})`,
    `exec ${program.map(quoteWord).join(' ')} run-request ${quoteWord(profile.folder)}/runs/"\${runs[$SLURM_ARRAY_TASK_ID]}"/request.json`,
  ])
}

/** A job that says what computes on a node. */
export function probeScript(profile: ClusterProfile, { submission, program }: Omit<Batch, 'runs'>, answer: string): string {
  const head = { 'job-name': jobName(submission), output: answer }
  return assemble(profile, head, [`exec ${program.map(quoteWord).join(' ')} run-request --probe`])
}

function assemble(profile: ClusterProfile, head: Record<string, string>, body: readonly string[]): string {
  const { partition, account, time, gpus, cpus, memory, folder, lines } = profile
  const asked: Record<string, string | boolean> = {
    ...head,
    chdir: folder,
    'open-mode': 'append',
    requeue: true,
    signal: 'B:USR2@60',
    partition,
    account,
    time,
    gpus: gpus > 0 ? String(gpus) : '',
    'cpus-per-task': String(cpus),
    mem: memory,
  }
  const options = Object.entries(asked).flatMap(([name, value]) =>
    value === '' ? [] : [`#SBATCH --${name}${value === true ? '' : `=${value}`}`],
  )
  const own = lines.split('\n').filter((line) => line.trim() !== '')
  const isOption = (line: string) => line.startsWith('#SBATCH')
  return `${['#!/bin/bash', ...options, ...own.filter(isOption), '', ...own.filter((line) => !isOption(line)), ...body].join('\n')}\n`
}
