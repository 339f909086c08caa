import { z } from 'zod'
import { dataRequest } from '../data/data-request.ts'
import { errorCodes } from '../errors.ts'
import { exportedRun } from '../exports/exports.ts'
import { benchRequest, speedRangeRequest } from '../exports/file-bench.ts'
import { inspectedRun } from '../inspection/divergence.ts'
import { hubFile } from '../models/hub-file.ts'
import { readPlace } from '../places.ts'
import { generationRequest } from '../playground/generation.ts'
import { plan, tensorFile } from '../pruning/plan.ts'
import { amount, backendName, runRequest } from '../runs/run-request.ts'

/** The version of these messages. Both sides must use the same one; the compute process sends its own first. */
export const computeProtocol = 1

/** Prefix of the JSON reason that a compute process writes before it exits because a file exceeded the read limits. */
export const limitMark = 'espalier-limit: '

/** A run with its plan, and the fingerprint of the model it was pruned from; null if the run does not record it. */
const inspectionSubject = z.object({ run: inspectedRun, plan, fingerprint: z.string().nullable() })

/** The tasks of a compute process, which does one at a time. */
const computeTask = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('run'), request: runRequest }),
  z.object({ kind: z.literal('ablation'), request: runRequest }),
  /** The runs to inspect, in the order of the request. */
  z.object({ kind: z.literal('inspection'), request: runRequest, subjects: z.array(inspectionSubject) }),
  z.object({ kind: z.literal('generate'), request: generationRequest }),
  z.object({ kind: z.literal('catalogue') }),
  z.object({ kind: z.literal('describe model'), path: z.string() }),
  /** Returns figures; null if the model has no begin token. */
  z.object({ kind: z.literal('measure begin'), model: z.string(), memoryBytes: z.number().optional() }),
  z.object({ kind: z.literal('look at text'), model: z.string(), data: dataRequest, against: dataRequest.optional() }),
  z.object({ kind: z.literal('check requests'), requests: z.array(runRequest) }),
  /** Returns the work of each request; null if it can no longer be determined. */
  z.object({ kind: z.literal('work'), requests: z.array(runRequest) }),
  z.object({
    kind: z.literal('save'),
    model: z.string(),
    /** The fingerprint of the model that the plan was made for; null if the run does not record it. */
    fingerprint: z.string().nullable(),
    plan: plan.nullable(),
    method: z.string(),
    run: exportedRun.optional(),
    folder: z.string(),
    formats: z.array(z.string()),
    ggufTypes: z.array(z.string()),
    replace: z.boolean(),
    /** The run's calibration text, drawn by its seed. Weight types of few bits need it to weigh quantisation errors. */
    calibration: dataRequest.optional(),
    seed: z.number().int(),
    /** Whether the run's windows began with the begin token. */
    begins: z.boolean().optional(),
    localFolder: readPlace.optional(),
    memoryBytes: z.number().optional(),
  }),
  /** Returns the size in each format. Without a plan, it is the size of the model as the method would prune it. */
  z.object({
    kind: z.literal('outline save'),
    model: z.string(),
    plan: plan.nullable(),
    method: z.string(),
    amount: amount.optional(),
    options: z.record(z.string(), z.unknown()).optional(),
    formats: z.array(z.string()),
    ggufTypes: z.array(z.string()),
  }),
  benchRequest.extend({ kind: z.literal('bench files') }),
  speedRangeRequest.extend({ kind: z.literal('speed range'), model: z.string(), memoryBytes: z.number().optional() }),
  z.object({ kind: z.literal('probe') }),
  z.object({ kind: z.literal('self-test'), backend: backendName }),
])

const job = z.number().int()
const asked = z.number().int()
export const errorMessage = z.object({
  code: z.enum(errorCodes),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
})

/** Messages from the main process to the compute process. Answers carry the number of their question. */
export const toCompute = z.discriminatedUnion('type', [
  /** `tensorFolder` is where steps write tensor files. */
  z.object({ type: z.literal('start'), job, task: computeTask, tensorFolder: z.string() }),
  z.object({ type: z.literal('cancel'), job, column: z.number().int().optional() }),
  /** Holds back the next tokens of a generation, because they are not read as fast as they come, or lets them continue. */
  z.object({ type: z.literal('hold'), job, held: z.boolean() }),
  z.object({
    type: z.literal('step found'),
    job,
    asked,
    found: z.boolean(),
    value: z.unknown().optional(),
    tensors: tensorFile.optional(),
    /** Whether an earlier attempt of the same run finished it. */
    own: z.boolean().optional(),
  }),
  z.object({ type: z.literal('step written'), job, asked }),
  z.object({ type: z.literal('file fetched'), job, asked, path: z.string() }),
  z.object({ type: z.literal('memory claimed'), job, asked, granted: z.boolean() }),
  z.object({ type: z.literal('refused'), job, asked, error: errorMessage }),
])

/** Messages from the compute process to the main process. */
export const fromCompute = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), protocol: z.number().int(), version: z.string(), node: z.string() }),
  z.object({ type: z.literal('alive'), memoryBytes: z.number() }),
  z.object({ type: z.literal('event'), job, event: z.unknown() }),
  z.object({ type: z.literal('get step'), job, asked, name: z.string() }),
  z.object({ type: z.literal('put step'), job, asked, name: z.string(), value: z.unknown(), tensors: tensorFile.optional() }),
  z.object({ type: z.literal('fetch file'), job, asked, file: hubFile }),
  /** Replaces what the process claimed before. If it `waits`, it gives that up, and the answer comes when the memory is free. */
  z.object({ type: z.literal('claim memory'), job, asked, bytes: z.number(), waits: z.boolean() }),
  z.object({ type: z.literal('result'), job, value: z.unknown() }),
  z.object({ type: z.literal('error'), job, error: errorMessage }),
])

export type ComputeTask = z.infer<typeof computeTask>
export type ToCompute = z.infer<typeof toCompute>
export type FromCompute = z.infer<typeof fromCompute>
