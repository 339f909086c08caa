import type { ClusterProfile } from '#contract/clusters/clusters.ts'
import { type Command, quoteWord } from './cluster-shell.ts'

/** A Slurm job that computes several runs, one task each. */
interface Batch {
  /** Identifies this job among the user's jobs. */
  submission: string
  runs: readonly string[]
  program: Command
}

export const jobName = (submission: string): string => `espalier-${submission}`

/**
 * Returns the batch script for some runs. It contains no names of models or texts, which are in the request files. Every word is an id or
 * was validated with the profile, except for the profile's own lines, which are inserted unchanged.
 */
export function batchScript(profile: ClusterProfile, { submission, runs, program }: Batch): string {
  const head = { 'job-name': jobName(submission), array: `0-${runs.length - 1}`, output: `${profile.folder}/logs/%A_%a.txt` }
  return assemble(profile, head, [
    `runs=(${runs.map(quoteWord).join(' ')})`,
    `exec ${program.map(quoteWord).join(' ')} run-request ${quoteWord(profile.folder)}/runs/"\${runs[$SLURM_ARRAY_TASK_ID]}"/request.json`,
  ])
}

/** Returns the batch script of a job that reports what a node computes with. */
export function probeScript(profile: ClusterProfile, { submission, program }: Omit<Batch, 'runs'>, answer: string): string {
  const head = { 'job-name': jobName(submission), output: answer }
  return assemble(profile, head, [`exec ${program.map(quoteWord).join(' ')} run-request --probe`])
}

function assemble(profile: ClusterProfile, head: Record<string, string>, body: readonly string[]): string {
  const { partition, account, time, gpus, cpus, memory, folder, lines } = profile
  const requested: Record<string, string | boolean> = {
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
  const options = Object.entries(requested).flatMap(([name, value]) =>
    value === '' ? [] : [`#SBATCH --${name}${value === true ? '' : `=${value}`}`],
  )
  const profileLines = lines.split('\n').filter((line) => line.trim() !== '')
  const isOption = (line: string) => line.startsWith('#SBATCH')
  return `${['#!/bin/bash', ...options, ...profileLines.filter(isOption), '', ...profileLines.filter((line) => !isOption(line)), ...body].join('\n')}\n`
}
