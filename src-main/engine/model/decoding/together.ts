import { gather, type Tensor2D, tensor1d, tidy } from '@tensorflow/tfjs-core'
import { groupStored } from '#engine/tensor/narrow.ts'
import { fewRows } from '#engine/tensor/products.ts'
import { valuesOf } from '#engine/tensor/read.ts'
import { finalHidden } from '../forward.ts'
import { breathe } from '../walk.ts'
import { headLogits, type Vocabulary } from '../weights/vocabulary.ts'
import { type DecodeJob, decodeRows } from './decode-rows.ts'

/** A request that waits to be decoded, and the functions that settle its promise. */
interface Waiting {
  readonly job: DecodeJob
  resolve(logits: Float32Array[]): void
  reject(error: unknown): void
}

let waiting: Waiting[] = []

/**
 * Returns the logits after the last new token of each sequence. Requests made at the same time, for instance by columns of the playground,
 * are computed together, because reading weights takes most of the time.
 */
export function decodeTogether(job: DecodeJob): Promise<Float32Array[]> {
  return new Promise((resolve, reject) => {
    waiting.push({ job, resolve, reject })
    if (waiting.length === 1) void breathe().then(decodeWaiting)
  })
}

async function decodeWaiting(): Promise<void> {
  const requests = waiting
  waiting = []
  for (const group of groupsOf(requests)) {
    try {
      const logits = await decodeGroup(group)
      for (const { job, resolve, reject } of group) {
        const ofJob = logits.splice(0, job.sequences.length)
        if (job.signal?.aborted) reject(job.signal.reason)
        else resolve(ofJob)
      }
    } catch (error) {
      for (const { reject } of group) reject(error)
    }
  }
}

/** Groups requests by model and kind of products. Each group is small enough for the operations on few rows. */
function groupsOf(requests: readonly Waiting[]): Waiting[][] {
  const groups: Waiting[][] = []
  for (const one of requests) {
    const { model } = one.job.view
    const fitting = groups.find((group) => {
      const other = (group[0] as Waiting).job.view.model
      const rows = group.reduce((sum, { job }) => sum + job.ids.length, one.job.ids.length)
      return other.store === model.store && other.products.answers === model.products.answers && rows <= fewRows
    })
    if (fitting) fitting.push(one)
    else groups.push([one])
  }
  return groups
}

async function decodeGroup(group: readonly Waiting[]): Promise<Float32Array[]> {
  const { view } = (group[0] as Waiting).job
  const x = await decodeRows(group.map(({ job }) => job))
  const hidden = tidy(() => finalHidden(view, lastRows(x, group)))
  x.dispose()
  try {
    return await logitsOf(view.model.vocabulary, hidden)
  } finally {
    hidden.dispose()
  }
}

/** Selects the row of the last token of each sequence. */
function lastRows(x: Tensor2D, group: readonly Waiting[]): Tensor2D {
  let last = -1
  const rows = group
    .flatMap(({ job }) => job.sequences)
    .map(({ tokens }) => {
      last += tokens
      return last
    })
  return rows.length === x.shape[0] ? x : gather(x, tensor1d(Int32Array.from(rows)))
}

/** Computes the logits of final hidden states [N, D]: N arrays of V. */
export async function logitsOf(vocabulary: Vocabulary, hidden: Tensor2D): Promise<Float32Array[]> {
  const [count] = hidden.shape
  let rows: Float32Array[] = []
  await vocabulary.forEachHeadChunk(async (chunk) => {
    if (count <= fewRows) await groupStored(chunk)
    const logits = valuesOf(() => headLogits(hidden, chunk)) as Float32Array
    const size = chunk.weight.shape[0]
    const ofChunk = Array.from({ length: count }, (_, row) => logits.subarray(row * size, (row + 1) * size))
    if (size === vocabulary.size) {
      rows = ofChunk
      return
    }
    if (rows.length === 0) rows = ofChunk.map(() => new Float32Array(vocabulary.size))
    for (const [row, values] of ofChunk.entries()) rows[row]?.set(values, chunk.first)
  })
  return rows
}
