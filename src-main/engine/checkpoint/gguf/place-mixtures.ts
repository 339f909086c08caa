import { at } from '#contract/at.ts'
import { isConstant, type MixtureTensors, type Projection, type ShapedTensor } from '#engine/architectures/spec.ts'
import { columnCount, rowCount, type TensorInfo } from '../checkpoint.ts'
import type { Described, Place, PlacedTensor } from './place.ts'

const mixturePart =
  /^blk\.(\d+)\.(ffn_gate_inp|ffn_(?:gate|up|down|gate_up)_exps|ffn_(?:gate|up|down|gate_inp)_shexp|exp_probs_b)\.(?:weight|bias)$/

/** Whether a tensor belongs to a mixture of the model. */
export function isMixtureTensor(name: string, { spec }: Described): boolean {
  const block = mixturePart.exec(name)?.[1]
  return block !== undefined && Number(block) < spec.blocks.length && spec.block(Number(block)).mixture !== undefined
}

/** Where a projection's rows are in a stored tensor: they start at row `first`. */
interface Source {
  readonly stored: PlacedTensor
  readonly first: number
  readonly target: Pick<Projection, 'weight' | 'firstRow' | 'rows' | 'columns' | 'shape'>
}

/** Locates the tensors of all mixtures. Each expert's rows are a range of a stored tensor that all experts of the block share. */
export function* placeMixtures(tensors: ReadonlyMap<string, PlacedTensor>, { spec, layout }: Described): Generator<Place> {
  for (const [index, block] of spec.blocks.entries()) {
    const { mixture } = spec.block(index)
    if (!mixture || (layout.blocks && block.width === 0)) continue
    const find = (part: string, kind = 'weight') => tensors.get(`blk.${index}.${part}.${kind}`)
    const byName = Map.groupBy(sourcesOf(mixture, find), ({ target }) => target.weight)
    for (const sources of byName.values()) yield placeOf(sources.sort((one, other) => one.target.firstRow - other.target.firstRow))
  }
}

type Find = (part: string, kind?: string) => PlacedTensor | undefined

function sourcesOf({ router, correction, experts, shared, sharedGate }: MixtureTensors, find: Find): Source[] {
  const whole = (stored: PlacedTensor | undefined, target: Source['target'] | undefined): Source[] =>
    stored && target ? [{ stored, first: 0, target }] : []
  const ofExperts = (part: string, kind?: string) => {
    const stored = find(part, kind)
    if (!stored || stored.shape[0] === experts.length) return stored
    throw new Error(`its tensor ${stored.name} has ${stored.shape[0]} experts, but its metadata says ${experts.length}`)
  }
  const expertBias = (part: string, place: number, { bias, rows }: Projection): Source[] => {
    const stored = bias === undefined ? undefined : asVector(ofExperts(`ffn_${part}_exps`, 'bias'))
    return stored
      ? [{ stored, first: (place * rowCount(stored.shape)) / experts.length, target: vector({ weight: bias as string, shape: [rows] }) }]
      : []
  }
  const expert = (part: string, place: number, target: Projection | undefined): Source[] => {
    const separate = ofExperts(`ffn_${part}_exps`)
    const joined = separate || part === 'down' ? undefined : ofExperts('ffn_gate_up_exps')
    const stored = separate ?? joined
    if (!stored || !target) return []
    const rows = rowCount(stored.shape) / experts.length / (joined ? 2 : 1)
    if (target.rows > rows) throw new Error(`its tensor ${stored.name} has ${rows} rows for each expert, but ${target.rows} are needed`)
    return [{ stored, first: (joined ? 2 * place + (part === 'up' ? 1 : 0) : place) * rows, target }, ...expertBias(part, place, target)]
  }
  return [
    ...whole(ofExperts('ffn_gate_inp'), router),
    ...whole(
      router.bias === undefined ? undefined : ofExperts('ffn_gate_inp', 'bias'),
      router.bias === undefined ? undefined : vector({ weight: router.bias, shape: [router.rows] }),
    ),
    ...whole(ofExperts('exp_probs_b', 'bias'), correction && vector(correction)),
    ...experts.flatMap((one, place) =>
      isConstant(one) ? [] : [...expert('gate', place, one.gate), ...expert('up', place, one.up), ...expert('down', place, one.down)],
    ),
    ...(['gate', 'up', 'down'] as const).flatMap((part) => whole(find(`ffn_${part}_shexp`), shared?.[part])),
    ...whole(asRow(find('ffn_gate_inp_shexp')), sharedGate),
  ]
}

const vector = ({ weight, shape }: ShapedTensor): Source['target'] => ({ weight, firstRow: 0, rows: at(shape, 0), columns: 1, shape })

/** Views the experts' biases as one vector. Throws an Error if they are quantised, because their blocks could not be split. */
function asVector(stored: PlacedTensor | undefined): PlacedTensor | undefined {
  if (stored && !stored.type.dtype)
    throw new Error(`its tensor ${stored.name} is stored as ${stored.type.name}, but must have plain values`)
  return stored && { ...stored, shape: [stored.shape.reduce((product, size) => product * size, 1)] }
}

/** Turns a vector into a matrix of one row. llama.cpp stores such matrices as vectors. */
const asRow = (stored: PlacedTensor | undefined): PlacedTensor | undefined =>
  stored && { ...stored, shape: stored.shape.length === 1 ? [1, ...stored.shape] : stored.shape }

/** Describes a tensor of the model that consists of rows of stored tensors. Throws an Error if a stored tensor is too small. */
function placeOf(sources: readonly Source[]): Place {
  for (const { stored, first, target } of sources) {
    if (first + target.rows > rowCount(stored.shape) || target.columns > columnCount(stored.shape))
      throw new Error(`its tensor ${stored.name} is [${stored.shape.join(', ')}], too small for ${target.weight}`)
  }
  const { stored, target } = sources[0] as Source
  const types = new Set(sources.map((source) => source.stored.type))
  const dtype = types.size === 1 ? stored.type.dtype : undefined
  const shape = target.shape ?? [target.rows, target.columns]
  const values = shape.reduce((product, size) => product * size, 1)
  const whole = types.size === 1 && (shape.length === 1 || target.columns === stored.shape.at(-1))
  const info: TensorInfo = {
    name: target.weight,
    dtype: dtype ?? 'F32',
    shape,
    bytes: values * (dtype ? stored.type.bytes / stored.type.values : 4),
    ...(whole ? { storedAs: stored.type.name } : {}),
    ...(whole && !dtype ? { quantisedAs: stored.type.name } : {}),
  }
  const rows = sources.map((source) => ({ stored: source.stored, first: source.first, count: source.target.rows }))
  return { info, rows, interleavedRows: undefined }
}
