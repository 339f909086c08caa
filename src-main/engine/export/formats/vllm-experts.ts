import { EspalierError } from '#contract/errors.ts'
import { expertSubstitutes, substitutesExperts } from '#engine/architectures/index.ts'
import { type DecoderSpec, isConstant } from '#engine/architectures/spec.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import type { ExportFormat } from '../format.ts'
import type { Planned } from '../pieces.ts'
import { inFamilyNames, layOutStock } from './stock.ts'

/**
 * A folder for vLLM's expert substitution. The router stays complete, experts keep their numbers, and each expert that became a vector has
 * one tensor `experts.N.approx_value`. `approximate_experts` in config.json lists these experts by block.
 */
export const vllmExperts: ExportFormat = {
  id: 'vllm-experts',
  order: 5,
  title: 'Folder for vLLM with constant experts',
  summary: `For vLLM's expert substitution: removed experts are vectors. ${expertSubstitutes.join(', ')}. Not tested in vLLM yet.`,
  ...inFamilyNames((planned) => {
    requireSubstitutes(planned)
    const laidOut = layOutStock(planned, true)
    const { blocks } = specWithPlan(planned.model.spec, planned.plan)
    const lists = laidOut.packed.flatMap(({ mlp }, position) => {
      const constants = mlp === undefined ? undefined : blocks[mlp]?.constants
      return constants?.length ? [[String(position), constants] as const] : []
    })
    return { ...laidOut, sizes: { ...laidOut.sizes, approximate_experts: Object.fromEntries(lists) } }
  }),
}

const refuse = (why: string, format: string) =>
  new EspalierError('infeasible', `The format vllm-experts cannot hold this model: ${why}. Choose ${format}.`)

function requireSubstitutes({ model: { spec }, plan }: Planned): void {
  if (!substitutesExperts(spec.family)) throw refuse(`it is for ${expertSubstitutes.join(', ')}`, 'exact')
  if (sharesTensors(spec)) throw refuse('its experts share tensors', 'exact')
  const { blocks } = specWithPlan(spec, plan)
  if (!blocks.some(({ constants }) => constants?.length)) throw refuse('none of its experts is a constant', 'stock, which vLLM opens')
}

const sharesTensors = ({ blocks, block }: DecoderSpec): boolean =>
  blocks.some((_, index) => block(index).mixture?.experts.some((expert) => !isConstant(expert) && expert.up.shape !== undefined))
