import { EspalierError } from '#contract/errors.ts'
import type { FormatId } from '#contract/titles.ts'
import type { ExportFormat } from './format.ts'

// generated: formats (npm run generate)

import { exact } from './exact/exact.ts'
import { nemotron } from './formats/nemotron.ts'
import { stock } from './formats/stock.ts'
import { vllmExperts } from './formats/vllm-experts.ts'
import { gguf } from './gguf/gguf.ts'

/** Every format a pruned model can be written in, by the name that the command line and the screens use. */
export const formats = {
  exact,
  stock,
  gguf,
  'nemotron-nas': nemotron,
  'vllm-experts': vllmExperts,
} as const satisfies Record<FormatId, ExportFormat>

// end

/** Returns the format with this name. Throws an error that lists the names if there is none. */
export function findFormat(id: string): ExportFormat {
  const found = Object.hasOwn(formats, id) ? formats[id as keyof typeof formats] : undefined
  if (!found) throw new EspalierError('usage', `There is no format "${id}". Choose from: ${Object.keys(formats).join(', ')}.`)
  return found
}
