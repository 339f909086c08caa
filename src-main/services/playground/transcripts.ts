import { formatNumber } from '#contract/comparison/cell-text.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TextFile } from '#contract/identifiers.ts'
import { escapeMarkdown, markdownLine, markdownQuote } from '#contract/markdown.ts'
import type { Transcript, TranscriptColumn, Vote } from '#contract/playground/playground.ts'
import { plainTable, toCsv } from '../comparison/table-text.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { entryOf } from './playground.ts'

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

/** Writes transcripts as one file: complete as JSON, or only prompts and answers as Markdown or CSV. */
export function transcriptFile(transcripts: readonly Transcript[], format: 'json' | 'markdown' | 'csv'): TextFile {
  if (format === 'json')
    return { fileName: 'transcripts.json', type: 'application/json', content: `${JSON.stringify(transcripts, null, 1)}\n` }
  if (format === 'csv') return { fileName: 'transcripts.csv', type: 'text/csv', content: toCsv(tableOf(transcripts)) }
  return { fileName: 'transcripts.md', type: 'text/markdown', content: transcripts.map(toMarkdown).join('\n') }
}

function columnName({ model, run }: TranscriptColumn): string {
  return run ? `${run.name} (${model.name})` : model.name
}

function tableOf(transcripts: readonly Transcript[]) {
  const labels = ['transcript', 'created', 'prompt', 'column', 'answer', 'tokens', 'seconds', 'tokens per second', 'end', 'best']
  const rows = transcripts.flatMap((transcript) =>
    transcript.answers.map((answer) => {
      const column = transcript.columns[answer.column]
      const best = transcript.votes.some(({ prompt, column: voted }) => prompt === answer.prompt && voted === answer.column)
      return [
        transcript.title,
        new Date(transcript.createdAt).toISOString(),
        transcript.prompts[answer.prompt] ?? null,
        column ? columnName(column) : null,
        answer.text,
        answer.tokens.length,
        answer.seconds,
        answer.tokensPerSecond,
        answer.end,
        best,
      ]
    }),
  )
  return plainTable(labels, rows)
}

function toMarkdown({ title, createdAt, prompts, columns, answers, notes, settings }: Transcript): string {
  const parts = prompts.flatMap((prompt, at) => [
    `## ${at + 1}. ${markdownLine(prompt.split(/\r|\n/, 1)[0] ?? '')}`,
    markdownQuote(prompt),
    ...answers
      .filter(({ prompt: asked }) => asked === at)
      .flatMap((answer) => {
        const column = columns[answer.column]
        const speed = answer.tokensPerSecond === null ? '' : `, ${formatNumber(answer.tokensPerSecond)} tokens per second`
        return [
          `### ${column ? markdownLine(columnName(column)) : answer.column}`,
          markdownQuote(answer.text),
          `${answer.tokens.length} tokens, ended by ${answer.end}${speed}`,
        ]
      }),
  ])
  const decoding = Object.entries(settings.decoding).map(([name, value]) => `${name} ${value}`)
  return [
    `# ${markdownLine(title)}`,
    `${new Date(createdAt).toISOString()}; seed ${settings.seed}; ${decoding.join(', ')}`,
    ...(notes ? [escapeMarkdown(notes)] : []),
    ...parts,
    '',
  ].join('\n\n')
}
