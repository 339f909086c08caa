import { z } from 'zod'
import { call, idInput } from '../call.ts'
import { id, name } from '../identifiers.ts'
import { transfer } from '../models/models.ts'
import { writePlace } from '../places.ts'
import { amount } from '../runs/run-request.ts'
import { usualGgufTypes } from '../titles.ts'
import { formatOutline, keptFile } from './exports.ts'
import { benchRequest, speedRangeRequest } from './file-bench.ts'

/** Where and how to save. Each of several formats gets a subfolder. `replace` allows overwriting a folder that is not empty. */
const saving = {
  formats: z.array(z.string()).min(1).max(20),
  ggufTypes: z.array(z.string()).min(1).max(40).default(usualGgufTypes),
  replace: z.boolean().default(false),
}
const outlines = z.object({ formats: z.array(formatOutline) })

export const exportCalls = {
  'runs.checkSave': call(
    'Check in advance whether a run of this method on this model can be saved, and how large the result would be.',
    z.object({
      model: id,
      method: z.string(),
      amount: amount.optional(),
      options: z.record(z.string(), z.unknown()).optional(),
      folder: writePlace.min(1),
      ...saving,
    }),
    outlines,
    'not-found',
    'conflict',
    'disk',
    'infeasible',
  ),
  'runs.formats': call(
    'The size of a run’s pruned model in each format, or why the format cannot hold it.',
    idInput,
    outlines,
    'not-found',
    'conflict',
  ),
  'bench.files': call(
    'Measure GGUF files in llama.cpp on this machine, in turns: speed, memory, and perplexity on texts.',
    benchRequest,
    transfer,
    'not-found',
    'invalid',
  ),
  'bench.speeds': call(
    'Measure which speeds a method can reach on a model: four files in llama.cpp on this machine, in turns.',
    speedRangeRequest.extend({ model: id }),
    transfer,
    'not-found',
    'infeasible',
  ),
  'runs.saved': call('What was saved from a run, newest first, and whether it is still there.', idInput, z.array(keptFile), 'not-found'),
  'runs.save': call(
    'Write the pruned model of a run to a folder, and add it to the library.',
    idInput.extend({
      name: name.optional(),
      folder: writePlace.min(1).optional(),
      ...saving,
      /** Default: the type that the run was measured in or sized for, else F16. */
      ggufTypes: saving.ggufTypes.unwrap().optional(),
    }),
    transfer,
    'not-found',
    'conflict',
    'disk',
    'infeasible',
  ),
}
