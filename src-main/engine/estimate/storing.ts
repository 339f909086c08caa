import type { PhaseWork } from '#contract/runs/time/estimate.ts'
import { mixedBytes } from '#contract/titles.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { type DecoderSpec, mixerProjections, type Projection } from '#engine/architectures/spec.ts'
import { blockTypeNamed, bytesOfValues } from '#engine/checkpoint/gguf/value-blocks.ts'
import { findMix, fitType } from '#engine/export/gguf/mix.ts'
import { sampledValues, typesFor } from '#engine/export/mixed-types/price-list.ts'
import { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { storedBytesPerParameter } from '#engine/model/weights/residency.ts'
import { billion, type WorkModel } from './phase-counts.ts'

const million = 1e6

/** How many times as long as to Q4_K quantising a value to a type takes, with importances. Measured on two cores of a Xeon. */
const timesQ4K: Readonly<Record<string, number>> = {
  Q8_0: 0.04,
  Q6_K: 0.25,
  Q5_K: 1.1,
  Q5_1: 1,
  Q5_0: 0.22,
  Q4_K: 1,
  Q4_1: 0.93,
  Q4_0: 0.23,
  IQ4_NL: 1.8,
  IQ4_XS: 1.8,
  MXFP4: 0.04,
  Q3_K: 0.36,
  IQ3_S: 2.4,
  IQ3_XXS: 3.5,
  Q2_K: 1.1,
  IQ2_S: 1.7,
  IQ2_XS: 5.8,
  IQ2_XXS: 2.9,
  IQ1_M: 6.3,
  IQ1_S: 1.3,
}
/** The same for converting a value to a type of 16 bits or more, and for comparing a quantised value with its own. */
const [converting, comparing] = [0.02, 0.15]
const timeOf = (type: string): number => timesQ4K[type] ?? converting

/** Millions of values that are quantised to Q4_K in the time in which ggml makes the tables of a type, once in a process. */
const tables: Readonly<Record<string, number>> = { IQ3_XXS: 1, IQ3_S: 3, IQ2_XXS: 15, IQ2_XS: 30, IQ2_S: 65, IQ1_S: 140 }

/** Seconds to read a gigabyte of weights as float32, gather what is kept of them, and write their file. */
const moving = 1

type Storing = Pick<PhaseWork, 'stored' | 'seconds'>

/** The work of writing a GGUF file of a weight type, with `left` of the block stack. */
export function fileWork(spec: DecoderSpec, type: string, left: number): Storing {
  const [stack, vocabulary] = [left * stackParameters(spec), Vocabulary.parameters(spec)]
  const { main, head = 'Q6_K' } = findMix(type)
  const isMixed = mixedBytes(type) !== undefined
  const typeOf = (name: string) => fitType(name, spec.hidden)
  const timeIn = (name: string) => (isMixed ? usualTime(spec) : timeOf(typeOf(name)))
  const stored = (stack * timeIn(main) + vocabulary * timeIn(head)) / million
  return { stored: stored + (tables[typeOf(main)] ?? 0), seconds: (moving * 4 * (stack + vocabulary)) / billion }
}

/** The gigabytes of a GGUF file's matrices, all of which llama.cpp reads for every token that it writes. */
export function fileGigabytes(model: WorkModel, type: string, left: number): number {
  const { spec } = model
  const mixed = mixedBytes(type)
  if (mixed !== undefined) return mixed / billion
  const { main, head = 'Q6_K', asStored } = findMix(type)
  if (asStored) return (storedBytesPerParameter(model) * (left * stackParameters(spec) + Vocabulary.parameters(spec))) / billion
  const bytesIn = (name: string, count: number) => bytesOfValues(blockTypeNamed(fitType(name, spec.hidden)), count)
  return (bytesIn(main, left * stackParameters(spec)) + bytesIn(head, spec.vocabulary * spec.hidden)) / billion
}

/** The mean time of the types that a matrix of mixed types may have. */
function usualTime({ hidden }: DecoderSpec): number {
  const types = typesFor(hidden, true)
  return types.reduce((sum, { name }) => sum + timeOf(name), 0) / types.length
}

/** The work of pricing all types of the matrices of a model, on a sample of each. */
export function pricingWork(spec: DecoderSpec): Storing {
  const used = new Set<string>()
  const price = (values: number, columns: number, weighed: boolean) => {
    const names = typesFor(columns, weighed).map(({ name }) => name)
    for (const name of names) used.add(name)
    return sampledValues(values) * names.reduce((sum, name) => sum + timeOf(name) + comparing, 0)
  }
  const priceAll = (projections: readonly Projection[], experts = 1) =>
    projections.reduce((sum, { rows, columns }) => sum + price(experts * rows * columns, columns, true), 0)
  const stack = spec.blocks.reduce((sum, { attention, width, experts }, index) => {
    const tensors = spec.block(index)
    const { gate, up, down } = tensors.mixture?.experts.find((expert) => 'up' in expert) ?? tensors
    const mlp = width > 0 ? [gate, up, down].filter((one) => one !== undefined) : []
    return sum + (attention ? priceAll([...mixerProjections(tensors), tensors.output]) : 0) + priceAll(mlp, experts)
  }, 0)
  const matrices = spec.head.weight === spec.embedding ? 1 : 2
  const values = stack + matrices * price(spec.vocabulary * spec.hidden, spec.hidden, false)
  return { stored: [...used].reduce((sum, name) => sum + (tables[name] ?? 0), values / million), seconds: 0 }
}
