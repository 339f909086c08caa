import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { readSpec } from '#engine/architectures/index.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'

const lists = z.record(z.string().regex(/^(0|[1-9]\d*)$/), z.array(z.number().int().nonnegative()))

/**
 * Returns the blocks of a model whose config lists experts that are constant vectors, as vLLM's expert substitution writes it. Returns
 * undefined if the config has no such list.
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
    throw new EspalierError('invalid', `config.json: "approximate_experts" names block ${unknown}, which is not a mixture in this model.`)
  return blocks.map((block, index) => {
    const listed = read.data[index]
    if (!listed?.length) return block
    const experts = block.experts ?? 0
    const constants = [...new Set(listed)].sort((one, other) => one - other)
    if (constants.length < listed.length || constants.some((expert) => expert >= experts) || constants.length === experts)
      throw new EspalierError(
        'invalid',
        `config.json: "approximate_experts" lists ${listed.join(', ')} in block ${index}. List numbers below ${experts}, each once, and not all of them.`,
      )
    return { ...block, constants }
  })
}
