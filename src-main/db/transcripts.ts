import type { GenerationSettings } from '#contract/playground/generation-settings.ts'
import type { Transcript, TranscriptAnswer, TranscriptColumn, TranscriptEntry, Vote } from '#contract/playground/playground.ts'
import { searchExpression } from './runs/run-filter.ts'
import { fromJson, Table } from './table.ts'

interface TranscriptRow {
  number: number
  id: string
  title: string
  status: TranscriptEntry['status']
  prompts: string
  prompt_tags: string
  columns: string
  settings: string
  blind: number
  votes: string
  starred: number
  tags: string
  problem: string | null
  created_at: number
  notes: string
}

interface NewTranscript {
  id: string
  title: string
  prompts: string[]
  promptTags?: string[][]
  columns: TranscriptColumn[]
  settings: GenerationSettings
  blind: boolean
  owner: string
  createdAt: number
}

interface TranscriptPatch {
  title?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  votes?: Vote[] | undefined
  status?: TranscriptEntry['status'] | undefined
  problem?: string | null | undefined
}

interface TranscriptQuery {
  search: string
  run?: string | undefined
  starred?: boolean | undefined
  offset: number
  limit: number
}

const filter = `
  WHERE (@search IS NULL OR number IN (SELECT rowid FROM transcript_search WHERE transcript_search MATCH @search))
    AND (@run IS NULL OR number IN (SELECT transcript FROM transcript_runs WHERE run = @run))
    AND (@starred IS NULL OR starred = @starred)`

export class TranscriptsTable extends Table {
  readonly #insert: (transcript: NewTranscript) => number = this.one(`
    INSERT INTO transcripts(id, title, status, owner, prompts, prompt_tags, columns, settings, blind, created_at)
    VALUES (@id, @title, 'running', @owner, @prompts, @promptTags, @columns, @settings, @blind, @createdAt) RETURNING number`)
  readonly #link: (transcript: number, run: string) => void = this.run(
    'INSERT OR IGNORE INTO transcript_runs(transcript, run) VALUES (?, ?)',
  )
  readonly #addAnswer: (transcript: number, prompt: number, position: number, text: string, answer: TranscriptAnswer) => void = this.run(
    'INSERT OR REPLACE INTO transcript_answers(transcript, prompt, position, text, answer) VALUES (?, ?, ?, ?, ?)',
  )
  readonly #answers: (transcript: number) => TranscriptAnswer[] = this.all(
    'SELECT answer FROM transcript_answers WHERE transcript = ? ORDER BY prompt, position',
    fromJson<TranscriptAnswer>,
  )
  readonly #number: (id: string) => number | undefined = this.first('SELECT number FROM transcripts WHERE id = ?')
  readonly #page: (query: object) => TranscriptEntry[] = this.all(
    `SELECT * FROM transcripts ${filter} ORDER BY created_at DESC, number DESC LIMIT @limit OFFSET @offset`,
    toEntry,
  )
  readonly #total: (query: object) => number = this.one(`SELECT count(*) FROM transcripts ${filter}`)

  readonly find: (id: string) => Transcript | undefined = this.first('SELECT * FROM transcripts WHERE id = ?', (row: TranscriptRow) =>
    toTranscript(row, this.#answers(row.number)),
  )
  readonly remove: (id: string) => number = this.run('DELETE FROM transcripts WHERE id = ?')
  readonly countOfRuns: (runs: readonly string[]) => number = this.one(
    'SELECT count(DISTINCT transcript) FROM transcript_runs WHERE run IN (SELECT value FROM json_each(?))',
  )

  /** Throws if there is none. */
  get(id: string): Transcript {
    return this.known('transcript', id, this.find(id))
  }

  insert(transcript: NewTranscript): void {
    const number = this.#insert({ promptTags: [], ...transcript })
    for (const { run } of transcript.columns) if (run) this.#link(number, run.id)
  }

  addAnswer(id: string, answer: TranscriptAnswer): void {
    const number = this.#number(id)
    if (number !== undefined) this.#addAnswer(number, answer.prompt, answer.column, answer.text, answer)
  }

  query({ search, run, starred, offset, limit }: TranscriptQuery): { total: number; rows: TranscriptEntry[] } {
    const values = { search: searchExpression(search), run: run ?? null, starred: starred ?? null }
    return { total: this.#total(values), rows: this.#page({ ...values, limit, offset }) }
  }

  patch(id: string, patch: TranscriptPatch): void {
    this.update('transcripts', 'id', id, patch)
  }
}

function toEntry(row: TranscriptRow): TranscriptEntry {
  return {
    id: row.id,
    title: row.title,
    prompts: JSON.parse(row.prompts) as string[],
    promptTags: JSON.parse(row.prompt_tags) as string[][],
    columns: JSON.parse(row.columns) as TranscriptColumn[],
    status: row.status,
    blind: row.blind === 1,
    starred: row.starred === 1,
    tags: JSON.parse(row.tags) as string[],
    createdAt: row.created_at,
  }
}

function toTranscript(row: TranscriptRow, answers: TranscriptAnswer[]): Transcript {
  return {
    ...toEntry(row),
    notes: row.notes,
    settings: JSON.parse(row.settings) as GenerationSettings,
    answers,
    votes: JSON.parse(row.votes) as Vote[],
    problem: row.problem,
  }
}
