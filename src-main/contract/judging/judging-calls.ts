import { z } from 'zod'
import { call, idInput } from '../call.ts'
import { id, name, nothing, textFile } from '../identifiers.ts'
import { judgement, judgingEntry, judgingResult, judgingState } from './judging.ts'

export const judgingCalls = {
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
  'judgings.get': call('A judging’s state: the next pair of anonymous answers.', idInput, judgingState, 'not-found'),
  'judgings.vote': call(
    'Vote on a pair, or undo a vote with null.',
    idInput.extend({ pair: z.number().int().nonnegative(), vote: judgement.nullable() }),
    judgingState,
    'not-found',
  ),
  'judgings.result': call('Standings with intervals, results by prompt and by tag, and every vote.', idInput, judgingResult, 'not-found'),
  'judgings.export': call(
    'A judging with all its votes as one file.',
    idInput.extend({ format: z.enum(['json', 'csv']) }),
    textFile,
    'not-found',
  ),
  'judgings.remove': call('Permanently delete a judging with its votes.', idInput, nothing, 'not-found'),
}
