import type { JudgedSides, Judgement } from '#contract/judging/judging.ts'
import type { GenerationSettings } from '#contract/playground/generation-settings.ts'
import type { Transcript, TranscriptAnswer, TranscriptColumn, TranscriptEntry, Vote } from '#contract/playground/playground.ts'
import { searchExpression } from './runs/run-filter.ts'
import { fromJson, readRow, Table } from './sql-table.ts'

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
  prompts?: string[] | undefined
  settings?: GenerationSettings | undefined
  owner?: string | undefined
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

const entryColumns = `id, title, prompts, prompt_tags, columns, status, blind, starred, tags, created_at,
  (SELECT count(*) FROM transcript_answers WHERE transcript = transcripts.number AND text <> '') AS answered`
const entryKinds = { json: ['prompts', 'promptTags', 'columns', 'tags'], flags: ['blind', 'starred'] } as const
const readTranscript = readRow<Omit<Transcript, 'answers'>>({ ...entryKinds, json: [...entryKinds.json, 'settings', 'votes'] })

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
  readonly #answers: (id: string) => TranscriptAnswer[] = this.all(
    `SELECT answer FROM transcript_answers WHERE transcript = (SELECT number FROM transcripts WHERE id = ?) ORDER BY prompt, position`,
    fromJson<TranscriptAnswer>,
  )
  readonly #number: (id: string) => number | undefined = this.first('SELECT number FROM transcripts WHERE id = ?')
  readonly #page: (query: object) => TranscriptEntry[] = this.all(
    `SELECT ${entryColumns} FROM transcripts ${filter} ORDER BY created_at DESC, number DESC LIMIT @limit OFFSET @offset`,
    readRow<TranscriptEntry>(entryKinds),
  )
  readonly #total: (query: object) => number = this.one(`SELECT count(*) FROM transcripts ${filter}`)

  readonly find: (id: string) => Transcript | undefined = this.first(
    `SELECT ${entryColumns}, notes, settings, votes, problem FROM transcripts WHERE id = ?`,
    (row: object) => {
      const transcript = readTranscript(row)
      return { ...transcript, answers: this.#answers(transcript.id) }
    },
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

export interface StoredJudging {
  number: number
  id: string
  title: string
  transcript: string
  pairs: JudgedSides[]
  votes: number
  createdAt: number
}

export interface StoredVote {
  pair: number
  vote: Judgement
  at: number
}

const joined = `
  SELECT j.number, j.id, j.title, t.id AS transcript, j.pairs, j.created_at, (SELECT count(*) FROM judging_votes WHERE judging = j.number) AS votes
  FROM judgings j JOIN transcripts t ON t.number = j.transcript`

const readJudging = readRow<StoredJudging>({ json: ['pairs'] })

/** Blind judging: the drawn pairs, and one vote per pair. */
export class JudgingsTable extends Table {
  readonly insert: (judging: Omit<StoredJudging, 'number' | 'votes'>) => void = this.run(
    'INSERT INTO judgings(id, title, transcript, pairs, created_at) SELECT @id, @title, number, @pairs, @createdAt FROM transcripts WHERE id = @transcript',
  )
  readonly find: (id: string) => StoredJudging | undefined = this.first(`${joined} WHERE j.id = ?`, readJudging)
  readonly list: () => StoredJudging[] = this.all(`${joined} ORDER BY j.created_at DESC, j.number DESC LIMIT 500`, readJudging)
  readonly vote: (vote: StoredVote & { judging: number }) => void = this.run(
    'INSERT OR REPLACE INTO judging_votes(judging, pair, vote, at) VALUES (@judging, @pair, @vote, @at)',
  )
  readonly takeBack: (judging: number, pair: number) => void = this.run('DELETE FROM judging_votes WHERE judging = ? AND pair = ?')
  readonly votes: (judging: number) => StoredVote[] = this.all(
    'SELECT pair, vote, at FROM judging_votes WHERE judging = ? ORDER BY at, pair',
  )
  readonly remove: (id: string) => number = this.run('DELETE FROM judgings WHERE id = ?')

  /** Throws if there is none. */
  get(id: string): StoredJudging {
    return this.known('judging', id, this.find(id))
  }
}
