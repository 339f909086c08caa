import { z } from 'zod'
import { annotations, call, executor, idInput, start } from '../call.ts'
import { dataRequest } from '../data/data-request.ts'
import { id, name, notes, paths, tags, textFile } from '../identifiers.ts'
import { removal, runEntry } from '../runs/runs.ts'
import { experimentEntry, grid, gridPreview, preset, quickAnswer, quickSizes, quickTarget } from './experiments.ts'

export const experimentCalls = {
  'experiments.list': call(
    'All experiments with the number of runs in each status.',
    z.object({ archived: z.boolean().default(false) }),
    z.array(experimentEntry),
  ),
  'experiments.get': call('One experiment.', idInput, experimentEntry, 'not-found'),
  'experiments.presets': call('Ready-made grids for a model.', z.object({ model: id }), z.array(preset), 'not-found'),
  'experiments.preview': call('Preview what each combination of a grid would remove, reach and cost.', z.object({ grid }), gridPreview),
  'experiments.sizes': call(
    'The file sizes that a quick answer about a model can be asked for.',
    z.object({ model: id }),
    quickSizes,
    'not-found',
    'infeasible',
  ),
  'experiments.quick': call(
    'A small grid that answers whether pruning a model pays at one file size or speed, for general text or for a text of the user’s own. It is as thorough as fits into five minutes.',
    z.object({ model: id, text: dataRequest.nullable().default(null), target: quickTarget }),
    quickAnswer,
    'not-found',
    'infeasible',
  ),
  'experiments.create': call(
    'Create the runs of a grid, including each model’s dense baseline.',
    z.object({
      name,
      grid,
      start,
      /** Skip amounts that cannot be reached instead of refusing the whole request. `leftOut` then has the reasons. */
      leaveOut: z.boolean().default(false),
      executor,
      notes: notes.optional(),
      tags: tags.optional(),
    }),
    z.object({ experiment: experimentEntry, runs: z.array(runEntry), leftOut: z.array(z.string()) }),
    'not-found',
    'infeasible',
  ),
  'experiments.grid': call('The grid behind a run or an experiment, as a template for another one.', idInput, grid, 'not-found'),
  'experiments.update': call(
    'Rename, annotate, tag or star an experiment.',
    idInput.extend(annotations.shape),
    experimentEntry,
    'not-found',
    'conflict',
  ),
  'experiments.archive': call(
    'Archive an experiment with its runs. Queued runs become drafts; a running one is archived when it ends.',
    idInput,
    z.object({ experiment: experimentEntry, waited: z.array(id), undo: id.nullable() }),
    'not-found',
  ),
  'experiments.unarchive': call(
    'Restore an archived experiment with its runs. `waited` lists drafts that were in the queue before.',
    idInput,
    z.object({ experiment: experimentEntry, waited: z.array(id), undo: id.nullable() }),
    'not-found',
  ),
  'experiments.enqueue': call('Queue the drafts of an experiment.', idInput, experimentEntry, 'not-found'),
  'experiments.remove': call('Permanently delete an archived experiment and its runs.', idInput, removal, 'not-found', 'conflict'),
  'experiments.export': call('An experiment with all of its runs as one JSON file.', idInput.extend({ paths }), textFile, 'not-found'),
  'experiments.import': call(
    'Import an exported experiment; it gets new ids.',
    z.object({ content: z.string().max(200_000_000) }),
    z.object({ experiment: experimentEntry, runs: z.number().int() }),
  ),
}
