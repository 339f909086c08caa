import { EspalierError } from '#contract/errors.ts'
import type { Transcript, Vote } from '#contract/playground/playground.ts'
import type { Context, Service } from '../context.ts'
import { entryOf } from './talks.ts'
import { transcriptFile } from './transcript-text.ts'

export function transcriptsService({ history, emit }: Pick<Context, 'history' | 'emit'>): Service<'transcripts'> {
  function find(id: string): Transcript {
    const transcript = history.transcripts.find(id)
    if (!transcript) throw new EspalierError('not-found', `There is no transcript ${id}.`)
    return transcript
  }

  /** One vote per prompt; voting again replaces it. */
  function withVote({ prompts, columns, votes }: Transcript, vote: Vote): Vote[] {
    if (vote.prompt >= prompts.length || (vote.column ?? 0) >= columns.length)
      throw new EspalierError('invalid', 'The vote refers to a prompt or a column that this transcript does not have.')
    return [...votes.filter(({ prompt }) => prompt !== vote.prompt), vote]
  }

  return {
    'transcripts.query': (query) => history.transcripts.query(query),
    'transcripts.get': ({ id }) => find(id),
    'transcripts.update'({ id, vote, ...patch }) {
      const transcript = find(id)
      history.transcripts.patch(id, { ...patch, ...(vote ? { votes: withVote(transcript, vote) } : {}) })
      const entry = entryOf(find(id))
      emit({ name: 'transcript changed', data: { transcript: entry } })
      return entry
    },
    'transcripts.remove'({ ids }) {
      history.transaction(() => {
        for (const id of ids) if (!history.transcripts.remove(id)) throw new EspalierError('not-found', `There is no transcript ${id}.`)
      })
      return {}
    },
    'transcripts.export': ({ ids, format }) => transcriptFile(ids.map(find), format),
  }
}
