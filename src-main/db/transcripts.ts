import type { GenerationSettings } from '#contract/playground/generation-settings.ts'
import type { Transcript, TranscriptAnswer, TranscriptColumn, TranscriptEntry, Vote } from '#contract/playground/playground.ts'
import type { Database } from './database.ts'
import { searchExpression } from './runs/run-filter.ts'

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

export interface NewTranscript {
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

export interface TranscriptPatch {
  title?: string | undefined
  notes?: string | undefined
  tags?: string[] | undefined
  starred?: boolean | undefined
  votes?: Vote[] | undefined
  status?: TranscriptEntry['status'] | undefined
  problem?: string | null | undefined
}

export interface TranscriptQuery {
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

export function transcriptsTable(db: Database) {
  const insert = db.prepare(`
    INSERT INTO transcripts(id, title, status, owner, prompts, prompt_tags, columns, settings, blind, created_at)
    VALUES (@id, @title, 'running', @owner, @prompts, @promptTags, @columns, @settings, @blind, @createdAt)`)
  const link = db.prepare('INSERT OR IGNORE INTO transcript_runs(transcript, run) VALUES (?, ?)')
  const answer = db.prepare('INSERT OR REPLACE INTO transcript_answers(transcript, prompt, position, text, answer) VALUES (?, ?, ?, ?, ?)')
  const find = db.prepare('SELECT * FROM transcripts WHERE id = ?')
  const answers = db.prepare('SELECT answer FROM transcript_answers WHERE transcript = ? ORDER BY prompt, position').pluck()
  const page = db.prepare(`SELECT * FROM transcripts ${filter} ORDER BY created_at DESC, number DESC LIMIT @limit OFFSET @offset`)
  const total = db.prepare(`SELECT count(*) FROM transcripts ${filter}`).pluck()
  const remove = db.prepare('DELETE FROM transcripts WHERE id = ?')
  const ofRuns = db.prepare('SELECT count(DISTINCT transcript) FROM transcript_runs WHERE run IN (SELECT value FROM json_each(?))').pluck()
  return {
    insert(transcript: NewTranscript): void {
      const { prompts, columns, settings, blind } = transcript
      const added = insert.run({
        ...transcript,
        prompts: JSON.stringify(prompts),
        promptTags: JSON.stringify(transcript.promptTags ?? []),
        columns: JSON.stringify(columns),
        settings: JSON.stringify(settings),
        blind: Number(blind),
      })
      for (const { run } of columns) if (run) link.run(added.lastInsertRowid, run.id)
    },
    find(id: string): Transcript | undefined {
      const row = find.get(id) as TranscriptRow | undefined
      return (
        row &&
        toTranscript(
          row,
          (answers.all(row.number) as string[]).map((text) => JSON.parse(text) as TranscriptAnswer),
        )
      )
    },
    addAnswer(id: string, given: TranscriptAnswer): void {
      const row = find.get(id) as TranscriptRow | undefined
      if (row) answer.run(row.number, given.prompt, given.column, given.text, JSON.stringify(given))
    },
    query({ search, run, starred, offset, limit }: TranscriptQuery): { total: number; rows: TranscriptEntry[] } {
      const values = { search: searchExpression(search), run: run ?? null, starred: starred === undefined ? null : Number(starred) }
      const rows = page.all({ ...values, limit, offset }) as TranscriptRow[]
      return { total: total.get(values) as number, rows: rows.map(toEntry) }
    },
    remove: (id: string) => remove.run(id).changes === 1,
    countOfRuns: (runs: readonly string[]) => ofRuns.get(JSON.stringify(runs)) as number,
    patch(id: string, { title, notes, tags, starred, votes, status, problem }: TranscriptPatch): void {
      const values = {
        title,
        notes,
        tags: tags && JSON.stringify(tags),
        starred: starred === undefined ? undefined : Number(starred),
        votes: votes && JSON.stringify(votes),
        status,
        problem,
      }
      for (const [column, value] of Object.entries(values)) {
        if (value !== undefined) db.prepare(`UPDATE transcripts SET ${column} = ? WHERE id = ?`).run(value, id)
      }
    },
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
