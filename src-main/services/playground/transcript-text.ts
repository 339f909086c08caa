import { formatNumber } from '#contract/comparison/cell-text.ts'
import type { TextFile } from '#contract/identifiers.ts'
import { escapeMarkdown, markdownLine, markdownQuote } from '#contract/markdown.ts'
import type { Transcript, TranscriptColumn } from '#contract/playground/playground.ts'
import { plainTable, toCsv } from '../comparison/table-text.ts'

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
