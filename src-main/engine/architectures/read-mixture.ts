import { EspalierError } from '#contract/errors.ts'
import { linear, type MixtureSizes } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { type BlockLayout, constantAt, defined, type MixtureTensors, type MlpTensors, type Projection, type RouterKind } from './spec.ts'

/** A family's description of the mixtures in its blocks. */
export interface MixtureTraits extends MixtureSizes {
  readonly router: RouterKind
  /** The tensors of a mixture whose names begin with `name`, for the number of experts in `layout`. */
  tensors(name: string, layout: BlockLayout): MixtureTensors
}

/** Config keys for how routers choose. */
interface RouterKeys {
  readonly countKeys: readonly string[]
  readonly count: number
  readonly chosen: number
  readonly widthKey: string
  readonly width?: number
  readonly renormalised: boolean
}

/**
 * Reads the number and width of the experts, and how many of them a token uses; scores are a softmax. Throws if a token would use more
 * experts than there are.
 */
export function readExperts(config: ConfigReader, keys: RouterKeys): Omit<MixtureTraits, 'tensors'> {
  const key = keys.countKeys.find((candidate) => config.has(candidate)) ?? (keys.countKeys[0] as string)
  const experts = config.integer(key, keys.count)
  const chosen = config.integer('num_experts_per_tok', keys.chosen)
  if (experts > 1024) throw new EspalierError('invalid', `config.json has "${key}" = ${experts}; at most 1,024 are allowed.`)
  if (chosen > experts)
    throw new EspalierError('invalid', `config.json: num_experts_per_tok ${chosen} is more than the ${experts} experts of "${key}".`)
  const width = config.integer(keys.widthKey, keys.width)
  const { countKeys, widthKey, renormalised } = keys
  return { experts, width, router: { chosen, scores: 'softmax', renormalised, countKeys, widthKey } }
}

/** Reads the groups of experts, if a config has more than one. Throws if the experts cannot be divided into these groups. */
export function readGroups(config: ConfigReader, experts: number, chosen: number): Pick<RouterKind, 'groups'> {
  const [count, open] = [config.integer('n_group', 1), config.integer('topk_group', 1)]
  if (count === 1) return {}
  if (experts % count !== 0)
    throw new EspalierError('invalid', `config.json: n_group ${count} does not divide the ${experts} experts of a mixture.`)
  if (open > count) throw new EspalierError('invalid', `config.json: topk_group ${open} is more than n_group ${count}.`)
  const each = experts / count
  // A group's score is the sum of its two best experts' scores, so a group needs two experts.
  if (each < 2 || open * each < chosen)
    throw new EspalierError(
      'invalid',
      `config.json: ${open} of ${count} groups hold ${open * each} experts, but a token uses ${chosen}, and each group needs two.`,
    )
  return { groups: { count, open } }
}

/** A family's names for the three projections of an expert. */
interface ExpertNames {
  readonly gate: string
  readonly up: string
  readonly down: string
}

const usual: ExpertNames = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' }

interface ExpertShape {
  readonly hidden: number
  readonly layout: BlockLayout
}

/** The projections of an MLP with its own tensors under `name`. */
export const gatedMlp = (name: string, width: number, hidden: number, names = usual, bias = false): MlpTensors => ({
  gate: linear(`${name}.${names.gate}`, width, hidden, bias),
  up: linear(`${name}.${names.up}`, width, hidden, bias),
  down: linear(`${name}.${names.down}`, hidden, width, bias),
})

type Experts = Pick<MixtureTensors, 'experts' | 'expertsName'>

/** Experts with separate tensors: three projections under the name `name`.N for expert N. */
export function separateExperts(name: string, { hidden, layout }: ExpertShape, names = usual, bias = false): Experts {
  const experts = Array.from({ length: layout.experts ?? 0 }, (_, index) => {
    if (layout.constants?.includes(index)) return constantAt({ expertsName: name }, index, hidden)
    return gatedMlp(`${name}.${index}`, layout.width, hidden, names, bias)
  })
  return { experts, expertsName: name }
}

/** Experts in two tensors: gates and ups [E, 2I, D] with each expert's gates first, and downs [E, D, I]. */
export function fusedExperts(
  name: string,
  { hidden, layout }: ExpertShape,
  names = { inner: `${name}.gate_up_proj`, down: `${name}.down_proj` },
): Experts {
  const { width, constants = [] } = layout
  const all = (layout.experts ?? 0) - constants.length
  const rowsOf =
    (weight: string, shape: readonly number[]) =>
    (firstRow: number, rows: number): Projection => ({
      weight,
      firstRow,
      rows,
      columns: shape[2] as number,
      shape,
    })
  const inner = rowsOf(names.inner, [all, 2 * width, hidden])
  const outer = rowsOf(names.down, [all, hidden, width])
  let place = 0
  const experts = Array.from({ length: layout.experts ?? 0 }, (_, index) => {
    if (constants.includes(index)) return constantAt({ expertsName: name }, index, hidden)
    const own = place++
    return {
      gate: inner(2 * own * width, width),
      up: inner((2 * own + 1) * width, width),
      down: outer(own * hidden, hidden),
    }
  })
  return { experts, expertsName: name }
}

/** Experts in either layout, because transformers 5 may write the experts of every family in two tensors. */
export function storedExperts(
  name: string,
  shape: ExpertShape,
  { stored, fused = false, names }: { stored: (name: string) => boolean; fused?: boolean; names?: ExpertNames },
): Experts {
  const joined = stored(`${name}.gate_up_proj`) || (fused && !stored(`${name}.0.${usual.gate}.weight`))
  return joined ? fusedExperts(name, shape) : separateExperts(name, shape, names)
}

/** A mixture whose router is the projection `router`. */
export function mixtureOf(
  router: string,
  experts: Experts,
  hidden: number,
  rest: { readonly [Key in keyof Omit<MixtureTensors, 'router' | keyof Experts>]: MixtureTensors[Key] | undefined } = {},
): MixtureTensors {
  return {
    router: linear(router, experts.experts.length, hidden),
    ...experts,
    ...(defined(rest) as Omit<MixtureTensors, 'router' | keyof Experts>),
  }
}
