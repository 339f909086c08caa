import { z } from 'zod'
import { call, executor, idInput, idsInput, start, undoable } from '../call.ts'
import { tableFormat } from '../comparison/table.ts'
import { beginChoice } from '../data/begin-token.ts'
import { id, name, notes, notesBefore, nothing, paths, tags, textFile } from '../identifiers.ts'
import { tokenPage } from '../inspection/divergence.ts'
import { inspection } from '../inspection/inspection.ts'
import { bulkAction, bulkResult, runSelection, selectionState, undone } from './bulk.ts'
import { queueState } from './queue.ts'
import { problem } from './request-preview.ts'
import { runRequest } from './run-request.ts'
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
} from './runs.ts'
import { noEstimate, runEstimate } from './time/estimate.ts'

const entries = z.object({ runs: z.array(runEntry) })

export const runCalls = {
  'runs.query': call('A page of the filtered, sorted history.', runQuery, runPage),
  'runs.columns': call('Columns the history can show, with ranges and values for filters.', runFilter, z.array(runColumn)),
  'runs.get': call('One run with everything its page shows.', idInput, runDetail, 'not-found'),
  'runs.events': call(
    'Events of a run after a sequence number, oldest first.',
    idInput.extend({
      after: z.number().int().default(0),
      limit: z.number().int().positive().max(5000).default(1000),
      types: z.array(z.string()).optional(),
    }),
    z.object({ events: z.array(recordedEvent), more: z.boolean() }),
    'not-found',
  ),
  'runs.log': call(
    'The end of the compute process’s output during a run.',
    idInput.extend({ bytes: z.number().int().positive().max(1_000_000).default(100_000) }),
    z.object({ text: z.string(), bytes: z.number().int() }),
    'not-found',
  ),
  'runs.inspect': call(
    'Create a run that inspects finished runs of one model: their divergence from the dense model, or their answers to prompts. Windows begin as in the inspected runs unless `beginToken` is given.',
    z.object({ inspect: inspection, beginToken: beginChoice.optional(), name: name.optional(), start }),
    runEntry,
    'not-found',
    'conflict',
    'infeasible',
  ),
  'runs.tokens': call(
    'A page of tokens from a divergence run, available as soon as it is computed; null before.',
    idInput.extend({ page: z.number().int().nonnegative() }),
    tokenPage.nullable(),
    'not-found',
    'conflict',
  ),
  'runs.inspectionsOf': call('Inspections of a run, newest first.', idInput, entries, 'not-found'),
  'runs.create': call(
    'Create one run outside a grid.',
    z.object({ model: id, request: runRequest.omit({ model: true }), name: name.optional(), experiment: id.optional(), executor, start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.clone': call(
    'The same run again, with changes.',
    idInput.extend({ changes: runRequest.omit({ model: true }).partial().default({}), start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.estimate': call(
    'How long a clone of a run with these changes would take, given the run’s finished steps. Null until the machine has been timed.',
    idInput.extend({ changes: runRequest.omit({ model: true }).partial().default({}) }),
    runEstimate.omit({ run: true }).nullable(),
    'not-found',
  ),
  'runs.selected': call(
    'Count the runs of a selection, and those that each action applies to.',
    z.object({ selection: runSelection }),
    selectionState,
  ),
  'runs.act': call(
    'Apply an action to all runs of a selection that allow it. Returns how many did.',
    z.object({ selection: runSelection, action: bulkAction }),
    bulkResult,
    'conflict',
  ),
  'runs.undo': call(
    'Undo an action on several runs. Runs that changed since stay as they are.',
    z.object({ undo: id }),
    undone,
    'not-found',
  ),
  'runs.update': call(
    'Rename, annotate, tag or star runs.',
    idsInput.extend({
      name: name.optional(),
      notes: notes.optional(),
      notesBefore,
      addTags: tags.optional(),
      removeTags: tags.optional(),
      starred: z.boolean().optional(),
    }),
    entries,
    'not-found',
    'conflict',
  ),
  'runs.enqueue': call('Queue drafts.', idsInput, entries, 'not-found', 'conflict'),
  'runs.pause': call('Pause runs at the next step; finished steps are kept.', idsInput, entries, 'not-found', 'conflict'),
  'runs.resume': call(
    'Resume paused, interrupted, failed or cancelled runs from their last step.',
    idsInput,
    entries,
    'not-found',
    'conflict',
  ),
  'runs.retry': call(
    'Restart done, paused, failed, cancelled or interrupted runs from the beginning.',
    idsInput,
    entries,
    'not-found',
    'conflict',
  ),
  'runs.cancel': call('Cancel queued, running, paused or interrupted runs.', idsInput, entries, 'not-found', 'conflict'),
  'runs.archive': call('Archive runs that are not running.', idsInput, undoable.extend({ undo: id.nullable() }), 'not-found', 'conflict'),
  'runs.unarchive': call('Restore archived runs.', idsInput, entries, 'not-found'),
  'runs.removal': call('Preview what permanently deleting these runs would remove.', runSelection, removal, 'not-found'),
  'runs.remove': call('Permanently delete archived runs.', runSelection, removal, 'not-found', 'conflict'),
  'runs.describe': call('Everything needed to repeat a run elsewhere.', idInput.extend({ paths }), runDescription, 'not-found'),
  'runs.foresee': call(
    'What `runs.replay` would do: the model that it would use, and finished runs with the same settings, whose steps it would take over.',
    z.object({ description: runDescription, model: id.optional() }),
    z.object({ model: z.object({ id, name, path: z.string() }), same: z.array(z.object({ id, name })), problems: z.array(problem) }),
    'not-found',
  ),
  'runs.replay': call(
    'Create a run from a description, to compare its numbers with the described ones. Unless `model` is given, the model is found by its path, source, name or shape. With `afresh`, it takes no steps from other runs.',
    z.object({ description: runDescription, model: id.optional(), afresh: z.boolean().default(false), start }),
    runEntry,
    'not-found',
    'infeasible',
  ),
  'runs.groups': call(
    'Filtered runs in nested groups by the values of up to three columns, with means.',
    runFilter.extend({ by: z.array(sortKey.shape.field).min(1).max(3) }),
    z.array(runGroup),
  ),
  'runs.csv': call(
    'All rows of a filtered, sorted history as CSV.',
    runFilter.extend({ sort: z.array(sortKey).max(5).optional(), columns: runQuery.shape.columns, paths }),
    textFile,
  ),
  'runs.studyFile': call(
    'The result of an ablation as a file: its table, or its plot as SVG.',
    idInput.extend({ format: z.enum([...tableFormat.options, 'svg']) }),
    textFile,
    'not-found',
    'conflict',
  ),

  'queue.get': call('The queue and its devices.', nothing, queueState),
  'queue.estimates': call(
    'How long each listed run in the queue will take, or why it will not be computed. Without estimates until the machine has been timed.',
    nothing,
    z.array(z.union([runEstimate, noEstimate])),
  ),
  'queue.move': call(
    'Move a waiting run before another, or to the end.',
    idInput.extend({ before: id.nullable() }),
    queueState,
    'not-found',
    'conflict',
  ),
  'queue.pause': call('Start no more runs; current ones continue.', nothing, queueState),
  'queue.resume': call(
    'Resume starting runs. With `retry`, the runs whose common cause stopped the queue are resumed too.',
    z.object({ retry: z.boolean().default(false) }),
    queueState,
    'not-found',
  ),
  'queue.seen': call('Dismiss the notice about runs resumed at the start.', nothing, queueState),

  'views.list': call('Saved views of the history.', nothing, z.array(savedView)),
  'views.save': call('Save a view; the same name replaces it.', z.object({ name, state: savedView.shape.state }), savedView),
  'views.remove': call('Delete a view.', idInput, nothing, 'not-found'),
}
