import { z } from 'zod'
import { clusterFinding, clusterName, clusterProfile } from './clusters/clusters.ts'
import { comparison, questionComparison } from './comparison/compare.ts'
import { tokenPage } from './comparison/divergence.ts'
import { inspection } from './comparison/inspection.ts'
import { tableFormat } from './comparison/table.ts'
import { dataRequest } from './data/data-request.ts'
import { textLook } from './data/text-look.ts'
import type { ErrorCode } from './errors.ts'
import { experimentEntry, grid, gridPreview, preset } from './experiments/experiments.ts'
import { formatOutline } from './exports/exports.ts'
import { id, ids, limit, moment, name, notes, nothing, offset, tags, textFile } from './identifiers.ts'
import { judgement, judgingEntry, judgingResult, judgingState } from './judging/judging.ts'
import { engineState, selfTest } from './machine/engine-state.ts'
import { settingsChange, settingsView, workbenchState } from './machine/settings.ts'
import { foundModel, modelDescription, modelDetail, modelEntry, transfer } from './models/models.ts'
import { readPlace, writePlace } from './places.ts'
import { promptSet, sessionRequest, transcript, transcriptEntry, vote } from './playground/playground.ts'
import { catalogue } from './pruning/methods.ts'
import { bulkAction, bulkResult, runSelection, selectionState, undone } from './runs/bulk.ts'
import { noEstimate, runEstimate } from './runs/estimate.ts'
import { backup, historyState } from './runs/history.ts'
import { queueState } from './runs/queue.ts'
import { amount, backendName, runRequest } from './runs/run-request.ts'
import {
  recordedEvent,
  removal,
  runColumn,
  runDescription,
  runDetail,
  runEntry,
  runFilter,
  runGroup,
  runPage,
  runQuery,
  savedView,
  sortKey,
} from './runs/runs.ts'
import { usualGgufTypes } from './titles.ts'

export { type ApiEvent, type EventData, type EventName, events, type Listener } from './events.ts'

/** One call: its input, its output, and the errors that a caller can act on. Any call may also fail with `invalid` or `internal`. */
export interface Call<I extends z.ZodType = z.ZodType, O extends z.ZodType = z.ZodType> {
  summary: string
  input: I
  output: O
  errors: readonly ErrorCode[]
}

function call<I extends z.ZodType, O extends z.ZodType>(summary: string, input: I, output: O, ...errors: ErrorCode[]): Call<I, O> {
  return { summary, input, output, errors }
}

const one = z.object({ id })
const many = z.object({ ids })
const path = readPlace.min(1)
const start = z.enum(['draft', 'queue']).default('queue')
/** The cluster that computes the runs; null for this machine. */
const executor = clusterName.nullable().default(null)
const marks = z.object({ name: name.optional(), notes: notes.optional(), tags: tags.optional(), starred: z.boolean().optional() })
/** Several formats get a subfolder each. `replace` allows overwriting a folder that is not empty. */
const saving = {
  formats: z.array(z.string()).min(1).max(20),
  ggufTypes: z.array(z.string()).min(1).max(40).default(usualGgufTypes),
  replace: z.boolean().default(false),
}
const outlines = z.object({ formats: z.array(formatOutline) })
const undoable = z.object({ undoUntil: moment })
const entries = z.object({ runs: z.array(runEntry) })

/** Every call that a screen, a script or another machine can make. Inputs and outputs are both validated. */
export const api = {
  'workbench.get': call('The program’s version, and whether it has been used yet.', nothing, workbenchState),

  'models.list': call('All models in the library.', nothing, z.array(modelEntry)),
  'models.get': call('One model with its files and lineage.', one, modelDetail, 'not-found'),
  'models.check': call('Describe a checkpoint without adding it.', z.object({ path }), modelDescription, 'not-found'),
  'models.add': call(
    'Add a folder of safetensors or a gguf file. Copying reports progress as a transfer.',
    z.object({ path, mode: z.enum(['link', 'copy']).default('link'), name: name.optional() }),
    modelEntry,
    'not-found',
    'conflict',
    'disk',
    'cancelled',
  ),
  'models.update': call('Rename, annotate, tag or star a model.', one.extend(marks.shape), modelEntry, 'not-found'),
  'models.remove': call(
    'Remove a model from the library. Also deletes its files if the library owns them and `files` is true. Can be undone until the returned time.',
    one.extend({ files: z.boolean().default(false) }),
    undoable,
    'not-found',
    'conflict',
  ),
  'models.restore': call('Undo the removal of a model.', one, modelEntry, 'not-found'),
  'models.found': call('Checkpoints of other programs on this machine that can be added.', nothing, z.array(foundModel)),
  'models.download': call(
    'Download a model by its hub name.',
    z.object({ name, revision: name.optional() }),
    transfer,
    'usage',
    'unreachable',
    'disk',
    'conflict',
  ),
  'files.browse': call(
    'Folders and checkpoints in a folder of this machine, for choosing one without a file dialog.',
    z.object({ folder: path.optional() }),
    z.object({
      folder: z.string(),
      parent: z.string().nullable(),
      entries: z.array(z.object({ name: z.string(), path: z.string(), kind: z.enum(['folder', 'model', 'data']) })),
    }),
    'not-found',
  ),

  'texts.look': call(
    'How many windows a text gives a model, how it begins, and how much of it also occurs in another text.',
    z.object({ model: id, data: dataRequest, against: dataRequest.optional() }),
    textLook,
    'not-found',
  ),
  'texts.upload': call(
    'Store a text from a browser; returns its path on this machine for data requests.',
    z.object({
      name: name.regex(/\.(txt|md|jsonl|json)$/i, 'A text ends in .txt, .md, .jsonl or .json.'),
      content: z.string().max(60_000_000),
    }),
    z.object({ path: z.string() }),
    'disk',
  ),

  'transfers.list': call('Current and recent downloads, copies and exports.', nothing, z.array(transfer)),
  'transfers.pause': call('Pause a download and keep the received part.', one, transfer, 'not-found', 'conflict'),
  'transfers.resume': call('Resume a paused or failed download.', one, transfer, 'not-found', 'conflict'),
  'transfers.cancel': call('Cancel a transfer and delete what it wrote.', one, transfer, 'not-found', 'conflict'),

  'methods.list': call('Methods with their options, data sets, tasks and export formats.', nothing, catalogue),

  'experiments.list': call(
    'All experiments with the number of runs in each status.',
    z.object({ archived: z.boolean().default(false) }),
    z.array(experimentEntry),
  ),
  'experiments.get': call('One experiment.', one, experimentEntry, 'not-found'),
  'experiments.presets': call('Ready-made grids for a model.', z.object({ model: id }), z.array(preset), 'not-found'),
  'experiments.preview': call('Preview what each combination of a grid would remove, reach and cost.', z.object({ grid }), gridPreview),
  'experiments.create': call(
    'Create the runs of a grid, including each model’s dense baseline.',
    z.object({
      name,
      grid,
      start,
      /** Skip amounts that cannot be reached instead of refusing the whole request; `leftOut` gives the reasons. */
      leaveOut: z.boolean().default(false),
      executor,
      notes: notes.optional(),
      tags: tags.optional(),
    }),
    z.object({ experiment: experimentEntry, runs: z.array(runEntry), leftOut: z.array(z.string()) }),
    'not-found',
    'infeasible',
  ),
  'experiments.grid': call('The grid behind a run or an experiment, as a template for another one.', one, grid, 'not-found'),
  'experiments.update': call('Rename, annotate, tag or star an experiment.', one.extend(marks.shape), experimentEntry, 'not-found'),
  'experiments.archive': call(
    'Archive an experiment with its runs. Queued runs become drafts; a running one is archived when it ends.',
    one,
    z.object({ experiment: experimentEntry, waited: z.array(id), undo: id.nullable() }),
    'not-found',
  ),
  'experiments.unarchive': call(
    'Restore an archived experiment with its runs. `waited` lists drafts that were in the queue before.',
    one,
    z.object({ experiment: experimentEntry, waited: z.array(id), undo: id.nullable() }),
    'not-found',
  ),
  'experiments.enqueue': call('Queue the drafts of an experiment.', one, experimentEntry, 'not-found'),
  'experiments.remove': call('Permanently delete an archived experiment and its runs.', one, removal, 'not-found', 'conflict'),
  'experiments.export': call('An experiment with all of its runs as one JSON file.', one, textFile, 'not-found'),
  'experiments.import': call(
    'Import an exported experiment; it gets new ids.',
    z.object({ content: z.string().max(200_000_000) }),
    z.object({ experiment: experimentEntry, runs: z.number().int() }),
  ),

  'runs.query': call('A page of the filtered, sorted history.', runQuery, runPage),
  'runs.columns': call('Columns the history can show, with ranges and values for filters.', runFilter, z.array(runColumn)),
  'runs.get': call('One run with everything its page shows.', one, runDetail, 'not-found'),
  'runs.events': call(
    'Events of a run after a sequence number, oldest first.',
    one.extend({
      after: z.number().int().default(0),
      limit: z.number().int().positive().max(5000).default(1000),
      types: z.array(z.string()).optional(),
    }),
    z.object({ events: z.array(recordedEvent), more: z.boolean() }),
    'not-found',
  ),
  'runs.log': call(
    'The end of the compute process’s output during a run.',
    one.extend({ bytes: z.number().int().positive().max(1_000_000).default(100_000) }),
    z.object({ text: z.string(), bytes: z.number().int() }),
    'not-found',
  ),
  'runs.inspect': call(
    'Create a run that inspects finished runs of one model: their divergence from the dense model, or their answers to prompts.',
    z.object({ inspect: inspection, name: name.optional(), start }),
    runEntry,
    'not-found',
    'conflict',
    'infeasible',
  ),
  'runs.tokens': call(
    'A page of tokens from a divergence run, available as soon as it is computed.',
    one.extend({ page: z.number().int().nonnegative() }),
    tokenPage,
    'not-found',
    'conflict',
  ),
  'runs.inspectionsOf': call('Inspections of a run, newest first.', one, entries, 'not-found'),
  'runs.create': call(
    'Create one run, or several of the same kind, outside a grid.',
    z.object({ model: id, request: runRequest.omit({ model: true }), name: name.optional(), experiment: id.optional(), executor, start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.clone': call(
    'The same run again, with changes.',
    one.extend({ changes: runRequest.omit({ model: true }).partial().default({}), start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.estimate': call(
    'How long such a clone would take, given the run’s finished steps. Null until the machine was timed.',
    one.extend({ changes: runRequest.omit({ model: true }).partial().default({}) }),
    runEstimate.omit({ run: true }).nullable(),
    'not-found',
  ),
  'runs.selected': call(
    'Count the runs of a selection, and those that each action applies to.',
    z.object({ selection: runSelection }),
    selectionState,
  ),
  'runs.act': call(
    'Apply an action to all runs of a selection that allow it; returns how many did.',
    z.object({ selection: runSelection, action: bulkAction }),
    bulkResult,
  ),
  'runs.undo': call(
    'Undo an action on several runs. Runs that changed since stay as they are.',
    z.object({ undo: id }),
    undone,
    'not-found',
  ),
  'runs.update': call(
    'Rename, annotate, tag or star runs.',
    many.extend({
      name: name.optional(),
      notes: notes.optional(),
      addTags: tags.optional(),
      removeTags: tags.optional(),
      starred: z.boolean().optional(),
    }),
    entries,
    'not-found',
  ),
  'runs.enqueue': call('Queue drafts.', many, entries, 'not-found', 'conflict'),
  'runs.pause': call('Pause runs at the next step; finished steps are kept.', many, entries, 'not-found', 'conflict'),
  'runs.resume': call('Resume paused, interrupted, failed or cancelled runs from their last step.', many, entries, 'not-found', 'conflict'),
  'runs.retry': call('Restart failed, cancelled or done runs from the beginning.', many, entries, 'not-found', 'conflict'),
  'runs.cancel': call('Cancel waiting or running runs.', many, entries, 'not-found', 'conflict'),
  'runs.archive': call('Archive runs that are not running.', many, undoable.extend({ undo: id.nullable() }), 'not-found', 'conflict'),
  'runs.unarchive': call('Restore archived runs.', many, entries, 'not-found'),
  'runs.removal': call('Preview what permanently deleting these runs would remove.', runSelection, removal, 'not-found'),
  'runs.remove': call('Permanently delete archived runs.', runSelection, removal, 'not-found', 'conflict'),
  'runs.describe': call('Everything needed to repeat a run elsewhere.', one, runDescription, 'not-found'),
  'runs.replay': call(
    'Create a run from a description. The model is found by its name, source or description.',
    z.object({ description: runDescription, model: id.optional(), start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.groups': call(
    'Filtered runs grouped by a column’s values, with means.',
    runFilter.extend({ by: sortKey.shape.field }),
    z.array(runGroup),
  ),
  'runs.csv': call(
    'All rows of a filtered, sorted history as CSV.',
    runFilter.extend({ sort: z.array(sortKey).max(5).optional(), columns: runQuery.shape.columns }),
    textFile,
  ),
  'runs.studyFile': call(
    'The result of an ablation as a file: its table, or its plot as SVG.',
    one.extend({ format: z.enum([...tableFormat.options, 'svg']) }),
    textFile,
    'not-found',
    'conflict',
  ),
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
    one,
    outlines,
    'not-found',
    'conflict',
  ),
  'runs.save': call(
    'Write the pruned model of a run to a folder of the library and add it there.',
    one.extend({ name: name.optional(), folder: writePlace.min(1).optional(), ...saving }),
    transfer,
    'not-found',
    'conflict',
    'disk',
    'infeasible',
  ),

  'queue.get': call('The queue and its devices.', nothing, queueState),
  'queue.estimates': call(
    'How long each run in the queue will take, or why it will not be computed; empty until the machine was timed.',
    nothing,
    z.array(z.union([runEstimate, noEstimate])),
  ),
  'queue.move': call(
    'Move a waiting run before another, or to the end.',
    one.extend({ before: id.nullable() }),
    queueState,
    'not-found',
    'conflict',
  ),
  'queue.pause': call('Start no more runs; current ones continue.', nothing, queueState),
  'queue.resume': call('Resume starting runs.', nothing, queueState),
  'queue.seen': call('Dismiss the notice about runs resumed at the start.', nothing, queueState),

  'clusters.list': call('The Slurm clusters that runs can be sent to.', nothing, z.array(clusterProfile)),
  'clusters.save': call('Save a cluster; the same name replaces it.', z.object({ cluster: clusterProfile }), z.array(clusterProfile)),
  'clusters.remove': call(
    'Delete a cluster that has no runs.',
    z.object({ name: clusterName }),
    z.array(clusterProfile),
    'not-found',
    'conflict',
  ),
  'clusters.script': call(
    'The batch script that runs would be submitted with.',
    z.object({ cluster: clusterProfile, runs: z.number().int().min(1).max(500).default(2) }),
    z.object({ script: z.string() }),
  ),
  'clusters.check': call(
    'Check a cluster: commands, partitions, the shared folder, and what computes on a node. Waits up to two minutes for a node.',
    z.object({ name: clusterName }),
    z.array(clusterFinding),
    'not-found',
  ),

  'views.list': call('Saved views of the history.', nothing, z.array(savedView)),
  'views.save': call('Save a view; the same name replaces it.', z.object({ name, state: savedView.shape.state }), savedView),
  'views.remove': call('Forget a view.', one, nothing, 'not-found'),

  'compare.get': call(
    'Runs with everything a comparison needs. The default baseline is the dense run of their experiment.',
    z.object({ ids: ids.max(500), baseline: id.optional() }),
    comparison,
    'not-found',
  ),
  'compare.questions': call(
    'How two runs differ on the same questions: counts, tests, intervals, and the flipped questions.',
    z.object({ first: id, second: id, task: z.string().optional(), offset, limit }),
    questionComparison,
    'not-found',
    'conflict',
  ),
  'compare.table': call(
    'The comparison as a table file.',
    z.object({
      ids: ids.max(500),
      baseline: id.optional(),
      format: tableFormat,
      overSeeds: z.boolean().default(false),
      measures: z.array(z.string()).max(200).optional(),
    }),
    textFile,
    'not-found',
  ),

  'reports.make': call(
    'A report on an experiment or some runs, as self-contained HTML or as Markdown.',
    z.object({
      experiment: id.optional(),
      runs: ids.max(200).optional(),
      title: name.optional(),
      format: z.enum(['html', 'markdown']).default('html'),
    }),
    textFile,
    'not-found',
    'conflict',
  ),

  'playground.start': call(
    'Generate from prompts with several views of one model; tokens come as `generation` events.',
    sessionRequest,
    transcriptEntry,
    'not-found',
    'conflict',
    'infeasible',
  ),
  'playground.stop': call(
    'Stop one column, or all of them.',
    one.extend({ column: z.number().int().nonnegative().optional() }),
    nothing,
    'not-found',
  ),
  'playground.release': call('Free the memory that the playground uses.', nothing, nothing),
  'prompts.list': call('Prompt sets, the paper’s first.', nothing, z.array(promptSet)),
  'prompts.save': call('Save a prompt set; the same name replaces it.', z.object({ name, prompts: promptSet.shape.prompts }), promptSet),
  'prompts.remove': call('Delete a prompt set.', one, nothing, 'not-found', 'conflict'),

  'judgings.list': call('Blind judgings, newest first.', nothing, z.array(judgingEntry)),
  'judgings.start': call(
    'Start a blind judging of a transcript: every pair of columns on every prompt, in random order and on random sides.',
    z.object({
      transcript: id,
      columns: z.array(z.number().int().nonnegative()).min(2).optional(),
      title: name.optional(),
      seed: z.number().int().nonnegative().optional(),
    }),
    judgingState,
    'not-found',
    'conflict',
  ),
  'judgings.get': call('A judging’s state: the next pair of anonymous answers.', one, judgingState, 'not-found'),
  'judgings.vote': call(
    'Vote on a pair, or undo a vote with null.',
    one.extend({ pair: z.number().int().nonnegative(), vote: judgement.nullable() }),
    judgingState,
    'not-found',
  ),
  'judgings.result': call('Standings with intervals, results by prompt and by tag, and every vote.', one, judgingResult, 'not-found'),
  'judgings.export': call(
    'A judging with all its votes as one file.',
    one.extend({ format: z.enum(['json', 'csv']) }),
    textFile,
    'not-found',
  ),
  'judgings.remove': call('Permanently delete a judging with its votes.', one, nothing, 'not-found'),

  'transcripts.query': call(
    'Saved answers, newest first.',
    z.object({ search: z.string().max(500).default(''), run: id.optional(), starred: z.boolean().optional(), offset, limit }),
    z.object({ total: z.number().int(), rows: z.array(transcriptEntry) }),
  ),
  'transcripts.get': call('One transcript with every token.', one, transcript, 'not-found'),
  'transcripts.update': call(
    'Rename, annotate, tag or star a transcript, or vote.',
    one.extend({
      title: name.optional(),
      notes: notes.optional(),
      tags: tags.optional(),
      starred: z.boolean().optional(),
      vote: vote.optional(),
    }),
    transcriptEntry,
    'not-found',
  ),
  'transcripts.remove': call('Permanently delete transcripts.', many, nothing, 'not-found'),
  'transcripts.export': call(
    'Transcripts as one file.',
    many.extend({ format: z.enum(['json', 'markdown', 'csv']) }),
    textFile,
    'not-found',
  ),

  'settings.get': call('The current settings.', nothing, settingsView),
  'settings.update': call('Change settings.', settingsChange, settingsView, 'disk'),
  'settings.setHubToken': call(
    'Store a hub token in a file that only this user can read, or delete it.',
    z.object({
      token: z
        .string()
        .trim()
        .min(1)
        .max(500)
        .regex(/^[\x21-\x7e]+$/)
        .nullable(),
    }),
    settingsView,
    'disk',
  ),

  'engine.get': call('Backend and device in use, and why.', z.object({ probe: z.boolean().default(false) }), engineState),
  'engine.selfTest': call(
    'Check known operations and time them.',
    z.object({ backend: backendName.default('auto') }),
    selfTest,
    'conflict',
  ),
  'engine.diagnostics': call('Everything a bug report needs, without secrets.', nothing, z.object({ text: z.string() })),

  'history.get': call(
    'The history file, its size, its health and its backups.',
    z.object({ check: z.boolean().default(false) }),
    historyState,
  ),
  'history.backup': call('Back up the history.', nothing, backup, 'disk'),
  'history.restore': call(
    'Replace the history with a backup; the current one is backed up first.',
    z.object({ name: z.string().regex(/^\w[\w.-]{0,119}$/) }),
    historyState,
    'not-found',
    'conflict',
    'disk',
  ),
}

export type Api = typeof api
export type CallName = keyof Api
/** Input as a caller passes it; fields with defaults are optional. */
export type Input<C extends CallName> = z.input<Api[C]['input']>
/** Input as the service receives it: validated, with defaults filled in. */
export type Checked<C extends CallName> = z.output<Api[C]['input']>
export type Output<C extends CallName> = z.output<Api[C]['output']>

/** The typed client that every side uses, over any transport. Abort the signal when the answer is no longer needed. */
export type CallApi = <C extends CallName>(name: C, input: Input<C>, signal?: AbortSignal) => Promise<Output<C>>

export const callNames = Object.keys(api) as CallName[]

/** Whether a string is the name of a call. Checks own keys only, so `constructor` is not one. */
export function isCallName(text: string): text is CallName {
  return Object.hasOwn(api, text)
}
