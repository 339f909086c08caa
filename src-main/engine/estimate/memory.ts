import type { RunRequest } from '#contract/runs/run-request.ts'
import { mixedBytes } from '#contract/titles.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { quickKeyOf } from '#engine/checkpoint/fingerprint.ts'
import { weighingText } from '#engine/export/gguf/importances.ts'
import { openSpec, usualMemory } from '#engine/model/model.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { gateBytes } from '#engine/pruning/gates/room.ts'

/** What a run computes besides its activations. */
interface RunMemory {
  /** Bytes that the method or the repair takes besides the weights. */
  readonly ownBytes: number
  /** Bytes that training takes, for which the dense model is freed (see `recovery-budget.ts`); 0 without a recovery. */
  readonly trainingBytes: number
  /** What the run may leave of the model. */
  readonly left: readonly DecoderSpec[]
}

/**
 * The most memory that a run's process takes: the runtime and, within the memory budget, float32 weights with the activations of one
 * window, or with those of the method, a repair or the pass that mixed types are chosen by if they take more. A file that the run writes and
 * measures is a second model.
 */
export function memoryNeeded(spec: DecoderSpec, request: RunRequest, { ownBytes, trainingBytes, left }: RunMemory): number {
  const { calibration, memoryBytes = usualMemory(), weights } = request
  const streams = 4 * 2 * spec.blocks.length * (calibration?.sequenceLength ?? 0) * spec.hidden
  const computing = weightBytes(spec) + Math.max(streams, ownBytes, mixingBytes(spec, request))
  const written = weights === undefined ? [] : left
  const measuring = written.map(
    (one) => weightBytes(one) + (holdsBoth(spec, one, memoryBytes) ? weightBytes(spec) : Vocabulary.bytes(spec)),
  )
  return runtimeBytes(spec) + Math.min(Math.max(computing, trainingBytes, ...measuring), memoryBytes)
}

/**
 * Whether a budget holds the weights of a model and of what is left of it. If not, the first, except embedding and head, are freed before
 * the second are read.
 */
export const holdsBoth = (spec: DecoderSpec, left: DecoderSpec, memoryBytes: number): boolean =>
  weightBytes(spec) + weightBytes(left) <= memoryBytes

/** The bytes of all weights as float32. */
const weightBytes = (spec: DecoderSpec): number => 4 * stackParameters(spec) + Vocabulary.bytes(spec)

/**
 * Bytes of a compute process besides the budget: libraries, of which most is shared with other processes, and the tokenizer with what
 * reading it leaves behind. Measured on Gemma 3, Qwen2.5 and SmolLM2 (docs/speed.md).
 */
const runtimeBytes = ({ vocabulary }: DecoderSpec): number => 6e8 + 2500 * vocabulary

/** What was counted last, because each message of a conversation asks for it. */
let counted: { readonly key: string; readonly bytes: number } | undefined

/** Bytes that a process takes in which the model at a path is open and fits in memory. Reads headers only. */
export async function openBytes(path: string): Promise<number> {
  const key = `${path} ${await quickKeyOf(path)}`
  if (counted?.key === key) return counted.bytes
  const { checkpoint, spec } = await openSpec(path)
  await checkpoint.close()
  counted = { key, bytes: runtimeBytes(spec) + weightBytes(spec) }
  return counted.bytes
}

/** The bytes of the pass that mixed types are chosen by. */
const mixingBytes = (spec: DecoderSpec, { weights, calibration }: RunRequest): number =>
  mixedBytes(weights ?? '') === undefined ? 0 : gateBytes(spec, weighingText(calibration, spec.contextLength).sequenceLength, 1)
