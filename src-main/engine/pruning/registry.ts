import { EspalierError } from '#contract/errors.ts'
import { type MethodId, retirementOf } from '#contract/titles.ts'
import type { Method } from './method.ts'

// generated: methods (npm run generate)

import { twoStage } from './methods/2ssp.ts'
import { blockPruner, submoduleBlockPruner } from './methods/blockpruner.ts'
import { evopress, submoduleEvopress } from './methods/evopress.ts'
import { gates } from './methods/gates.ts'
import { reap } from './methods/reap.ts'
import { shortgpt } from './methods/shortgpt.ts'
import { slicegpt } from './methods/slicegpt.ts'
import { vocabulary } from './methods/vocabulary.ts'
import { windowBased } from './methods/window-based.ts'

/** Every method, by the name that the command line and the history use. */
export const methods = {
  '2ssp': twoStage,
  shortgpt,
  window_based: windowBased,
  blockpruner: blockPruner,
  blockpruner_submodule: submoduleBlockPruner,
  evopress,
  evopress_submodule: submoduleEvopress,
  slicegpt,
  reap,
  gates,
  vocabulary,
} as const satisfies Record<MethodId, Method>

// end

/** Returns the method with this name. Throws with the list of names if there is none. */
export function findMethod(id: string): Method {
  if (!Object.hasOwn(methods, id))
    throw new EspalierError('usage', retirementOf(id) ?? `There is no method "${id}". Choose one of: ${Object.keys(methods).join(', ')}.`)
  return methods[id as MethodId]
}
