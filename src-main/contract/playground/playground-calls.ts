import { z } from 'zod'
import { call, idInput, idsInput } from '../call.ts'
import { id, limit, name, notes, nothing, offset, tags, textFile } from '../identifiers.ts'
import { answerer, completion, completionRequest, promptSet, sessionRequest, transcript, transcriptEntry, vote } from './playground.ts'

export const playgroundCalls = {
  'playground.start': call(
    'Answer prompts with several columns, which are plans over one model. Tokens arrive as `generation` events.',
    sessionRequest,
    transcriptEntry,
    'not-found',
    'conflict',
    'infeasible',
  ),
  'playground.reply': call(
    'Continue a conversation. Each column sees its own earlier answers. Needs the chat template.',
    idInput.extend({ text: z.string().min(1).max(100_000) }),
    transcriptEntry,
    'not-found',
    'conflict',
  ),
  'playground.stop': call(
    'Stop one column, or all of them.',
    idInput.extend({ column: z.number().int().nonnegative().optional() }),
    nothing,
    'not-found',
  ),
  'playground.release': call('Free the memory that the playground uses.', nothing, nothing),
  'playground.answerers': call('Models and runs that can answer, newest first.', nothing, z.array(answerer)),
  'playground.complete': call(
    'Answer prompts with one model or run, without storing a transcript.',
    completionRequest,
    completion,
    'not-found',
    'conflict',
    'infeasible',
    'cancelled',
  ),

  'playground.hold': call(
    'Hold back the next tokens of a completion that arrives as events, or let them continue.',
    z.object({ session: id, held: z.boolean() }),
    nothing,
    'not-found',
  ),

  'prompts.list': call('Prompt sets, the paper’s first.', nothing, z.array(promptSet)),
  'prompts.save': call('Save a prompt set; the same name replaces it.', z.object({ name, prompts: promptSet.shape.prompts }), promptSet),
  'prompts.remove': call('Delete a prompt set.', idInput, nothing, 'not-found', 'conflict'),

  'transcripts.query': call(
    'Saved answers, newest first.',
    z.object({ search: z.string().max(500).default(''), run: id.optional(), starred: z.boolean().optional(), offset, limit }),
    z.object({ total: z.number().int(), rows: z.array(transcriptEntry) }),
  ),
  'transcripts.get': call('One transcript with every token.', idInput, transcript, 'not-found'),
  'transcripts.update': call(
    'Rename, annotate, tag or star a transcript, or vote.',
    idInput.extend({
      title: name.optional(),
      notes: notes.optional(),
      tags: tags.optional(),
      starred: z.boolean().optional(),
      vote: vote.optional(),
    }),
    transcriptEntry,
    'not-found',
  ),
  'transcripts.remove': call('Permanently delete transcripts.', idsInput, nothing, 'not-found'),
  'transcripts.export': call(
    'Transcripts as one file.',
    idsInput.extend({ format: z.enum(['json', 'markdown', 'csv']) }),
    textFile,
    'not-found',
  ),
}
