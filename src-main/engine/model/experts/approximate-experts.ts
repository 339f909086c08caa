import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'

const lists = z.record(z.string().regex(/^(0|[1-9]\d*)$/), z.array(z.number().int().nonnegative()))

/**
 * The blocks of a model whose config lists experts that are vectors, as vLLM's expert substitution does; undefined if there is no such
 * list.
 */
export function approximateBlocks(config: Readonly<Record<string, unknown>>): BlockLayout[] | undefined {
  const given = (config.text_config as Record<string, unknown> | undefined)?.approximate_experts ?? config.approximate_experts
  if (given === undefined) return undefined
  const read = lists.safeParse(given)
  if (!read.success)
    throw new EspalierError('invalid', 'config.json: "approximate_experts" must list numbers of experts by block, such as {"1": [0, 3]}.')
  const { blocks } = readSpec({ ...config })
  const unknown = Object.keys(read.data).find((block) => blocks[Number(block)]?.experts === undefined)
  if (unknown !== undefined)
    throw new EspalierError('invalid', `config.json: "approximate_experts" names block ${unknown}, which is no mixture of this model.`)
  return blocks.map((block, index) => {
    const own = read.data[index]
    if (!own?.length) return block
    const experts = block.experts ?? 0
    const constants = [...new Set(own)].sort((one, other) => one - other)
    if (constants.length < own.length || constants.some((expert) => expert >= experts) || constants.length === experts)
      throw new EspalierError(
        'invalid',
        `config.json: "approximate_experts" lists ${own.join(', ')} in block ${index}; numbers below ${experts} are allowed, each once, and not all.`,
      )
    return { ...block, constants }
  })
}
