import { createHash } from 'node:crypto'
import type { TensorFile } from '#contract/pruning/plan.ts'
import { type StepReach, stepMarks } from '#contract/runs/step-names.ts'

declare const made: unique symbol

/** The name of a finished step. Only `nameStep` makes one. */
export type StepName = string & { readonly [made]: true }

/** What a step can depend on. A file counts by its hash only: a path never identifies content. */
export type Dependency =
  | string
  | number
  | boolean
  | null
  | undefined
  | Int32Array
  | { readonly sha256: string }
  | readonly Dependency[]
  | { readonly [name: string]: Dependency }

/** A kind of step, declared beside the code that computes it. Raise `version` when that code gives different results. */
export interface StepKind {
  readonly version: number
  readonly reach?: StepReach
  /** Whether all backends and precisions share the result: it is computed in float32 and only has to be about right. */
  readonly anywhere?: true
}

/** One step: its kind, a label for users, and everything its result depends on. */
export interface StepRequest {
  readonly kind: StepKind
  readonly label: string
  readonly on: Dependency
}

/** What all steps of a run depend on. Backends differ in the last digits, which decide near ties, so the backend is part of every name. */
export interface StepBase {
  /** The fingerprint of the model. */
  readonly model: string
  readonly backend: string
  readonly precision: string
}

/**
 * Every step depends on the forward pass. Raise this number when the forward pass gives results that differ by more than its stated
 * precision.
 */
const numbersVersion = 2

/** Names a step; nothing else does. Equal names mean equal results, whichever run, experiment or clone computed them. */
export function nameStep({ kind, label, on }: StepRequest, base: StepBase | null): StepName {
  const { version, reach = 'all', anywhere } = kind
  const hash = createHash('sha256')
  feed(hash, [numbersVersion, base && (anywhere ? { model: base.model } : { ...base }), label, version, on])
  return `${stepMarks[reach]}${label} #${hash.digest('hex')}` as StepName
}

type Hash = ReturnType<typeof createHash>

/**
 * Feeds a value to the hash, such that different values feed different text. Keys are sorted, so the order of an object's fields does not
 * matter.
 */
function feed(hash: Hash, value: Dependency): void {
  if (value instanceof Int32Array) {
    hash.update(`ids ${value.length}:`)
    hash.update(new Uint8Array(value.buffer, value.byteOffset, value.byteLength))
  } else if (Array.isArray(value)) {
    hash.update(`list ${value.length}:`)
    for (const one of value) feed(hash, one)
  } else if (isFile(value)) hash.update(`file ${value.sha256};`)
  else if (typeof value === 'object' && value !== null) feedObject(hash, value as { readonly [name: string]: Dependency })
  else hash.update(typeof value === 'number' ? `number ${value};` : `${JSON.stringify(value) ?? 'absent'};`)
}

function feedObject(hash: Hash, value: { readonly [name: string]: Dependency }): void {
  const names = Object.keys(value)
    .filter((name) => value[name] !== undefined)
    .sort()
  hash.update(`object ${names.length}:`)
  for (const name of names) {
    hash.update(`${JSON.stringify(name)}:`)
    feed(hash, value[name])
  }
}

const isFile = (value: Dependency): value is { readonly sha256: string } =>
  typeof value === 'object' && value !== null && 'sha256' in value && typeof value.sha256 === 'string'

/** A stored step: its JSON, and its tensor file if it has one. */
export interface StepResult {
  readonly value: unknown
  readonly tensors?: TensorFile
  /** False if another run computed it; otherwise this run did. */
  readonly own?: boolean
}

/** Where results of steps are stored. */
export interface StepStore {
  get(name: StepName): Promise<StepResult | undefined>
  /** Stores a result. `tensors` is a file in `folder`; the store takes it over. */
  put(name: StepName, value: unknown, tensors?: TensorFile): Promise<void>
  /** The folder that callers write tensor files to. */
  readonly folder: string
}
