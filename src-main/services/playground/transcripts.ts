import { EspalierError } from '#contract/errors.ts'
import type { Transcript, Vote } from '#contract/playground/playground.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { entryOf } from './playground.ts'
import { transcriptFile } from './transcript-text.ts'

export class TranscriptsService extends Service {
  readonly calls: Calls<'transcripts'> = {
    'transcripts.query': (query) => this.history.transcripts.query(query),
    'transcripts.get': ({ id }) => this.history.transcripts.get(id),
    'transcripts.update': ({ id, vote, ...patch }) => {
      const { transcripts } = this.history
      transcripts.patch(id, { ...patch, ...(vote ? { votes: votesWith(transcripts.get(id), vote) } : {}) })
      const transcript = entryOf(transcripts.get(id))
      this.parts.emit({ name: 'transcript changed', data: { transcript } })
      return transcript
    },
    'transcripts.remove': ({ ids }) => {
      this.history.transaction(() => {
        for (const id of ids) this.history.transcripts.remove(this.history.transcripts.get(id).id)
      })
      return {}
    },
    'transcripts.export': ({ ids, format }) =>
      transcriptFile(
        ids.map((id) => this.history.transcripts.get(id)),
        format,
      ),
  }
}

/** One vote per prompt; voting again replaces it. */
function votesWith({ prompts, columns, votes }: Transcript, vote: Vote): Vote[] {
  if (vote.prompt >= prompts.length || (vote.column ?? 0) >= columns.length)
    throw new EspalierError('invalid', 'The vote refers to a prompt or a column that this transcript does not have.')
  return [...votes.filter(({ prompt }) => prompt !== vote.prompt), vote]
}
