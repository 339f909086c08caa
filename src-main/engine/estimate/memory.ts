import type { RunRequest } from '#contract/runs/run-request.ts'
import { mixedBytes } from '#contract/titles.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { weighingText } from '#engine/export/gguf/importances.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { gateBytes } from '#engine/pruning/gates/room.ts'

/**
 * Bytes needed to keep everything in memory: float32 weights, and the activations of one window, or those of the method or a repair
 * (`ownBytes`), or of the pass that mixed types are chosen by, if they take more. Limited by the memory budget. Without recovery, which
 * frees the dense model before it trains (see `recovery-budget.ts`).
 */
export function memoryNeeded(spec: DecoderSpec, request: RunRequest, ownBytes: number): number {
  const { calibration, memoryBytes } = request
  const weights = 4 * stackParameters(spec) + Vocabulary.bytes(spec)
  const streams = 4 * 2 * spec.blocks.length * (calibration?.sequenceLength ?? 0) * spec.hidden
  return Math.min(weights + Math.max(streams, ownBytes, mixingBytes(spec, request)), memoryBytes ?? Number.POSITIVE_INFINITY)
}

/** The bytes of the pass that mixed types are chosen by. */
const mixingBytes = (spec: DecoderSpec, { weights, calibration }: RunRequest): number =>
  mixedBytes(weights ?? '') === undefined ? 0 : gateBytes(spec, weighingText(calibration, spec.contextLength).sequenceLength, 1)
