import { z } from 'zod'
import { inspectedRun } from '../comparison/divergence.ts'
import { dataRequest } from '../data/data-request.ts'
import { errorCodes } from '../errors.ts'
import { hubFile } from '../models/hub-file.ts'
import { generationRequest } from '../playground/generation.ts'
import { plan, tensorFile } from '../pruning/plan.ts'
import { exportedRun } from '../runs/exported-run.ts'
import { amount, backendName, runRequest } from '../runs/run-request.ts'

/** Both sides must speak the same; the compute process says its number first. */
export const computeProtocol = 1

/** Stands before the reason, as JSON, in what a compute process writes before it ends itself because a file passed the limits of reading. */
export const limitMark = 'espalier-limit: '

/** A run with its plan, and the fingerprint of the model that it was pruned from; null where the run does not say. */
const inspectionSubject = z.object({ run: inspectedRun, plan, fingerprint: z.string().nullable() })

/** What a compute process can be asked to do, one at a time. */
export const computeTask = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('run'), request: runRequest }),
  z.object({ kind: z.literal('ablation'), request: runRequest }),
  /** The runs that it looks at, in the order of the request. */
  z.object({ kind: z.literal('inspection'), request: runRequest, subjects: z.array(inspectionSubject) }),
  z.object({ kind: z.literal('generate'), request: generationRequest }),
  z.object({ kind: z.literal('catalogue') }),
  z.object({ kind: z.literal('describe model'), path: z.string() }),
  z.object({ kind: z.literal('look at text'), model: z.string(), data: dataRequest, against: dataRequest.optional() }),
  z.object({ kind: z.literal('preflight'), requests: z.array(runRequest) }),
  /** What each has to do, null where that cannot be said any more. */
  z.object({ kind: z.literal('work'), requests: z.array(runRequest) }),
  z.object({
    kind: z.literal('save'),
    model: z.string(),
    /** Of the model that the plan was made for; null where the run does not say. */
    fingerprint: z.string().nullable(),
    plan: plan.nullable(),
    method: z.string(),
    run: exportedRun.optional(),
    folder: z.string(),
    formats: z.array(z.string()),
    ggufTypes: z.array(z.string()),
    replace: z.boolean(),
    memoryBytes: z.number().optional(),
  }),
  /** What each of the formats would weigh; without a plan, of one as the method makes it. */
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

/** From the main side to the compute process. Answers carry the number of the question. */
export const toCompute = z.discriminatedUnion('type', [
  /** `tensorFolder` is where steps leave files of tensors. */
  z.object({ type: z.literal('start'), job, task: computeTask, tensorFolder: z.string() }),
  z.object({ type: z.literal('cancel'), job, column: z.number().int().optional() }),
  z.object({
    type: z.literal('step found'),
    job,
    asked,
    found: z.boolean(),
    value: z.unknown().optional(),
    tensors: tensorFile.optional(),
    /** Whether the same run did it, in an earlier attempt. */
    own: z.boolean().optional(),
  }),
  z.object({ type: z.literal('step written'), job, asked }),
  z.object({ type: z.literal('file fetched'), job, asked, path: z.string() }),
  z.object({ type: z.literal('refused'), job, asked, error: errorMessage }),
])

/** From the compute process to the main side. */
export const fromCompute = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), protocol: z.number().int(), version: z.string(), node: z.string() }),
  z.object({ type: z.literal('alive'), memoryBytes: z.number() }),
  z.object({ type: z.literal('event'), job, event: z.unknown() }),
  z.object({ type: z.literal('get step'), job, asked, name: z.string() }),
  z.object({ type: z.literal('put step'), job, asked, name: z.string(), value: z.unknown(), tensors: tensorFile.optional() }),
  z.object({ type: z.literal('fetch file'), job, asked, file: hubFile }),
  z.object({ type: z.literal('result'), job, value: z.unknown() }),
  z.object({ type: z.literal('error'), job, error: errorMessage }),
])

export type ComputeTask = z.infer<typeof computeTask>
export type ToCompute = z.infer<typeof toCompute>
export type FromCompute = z.infer<typeof fromCompute>
