import type { JudgedSides, Judgement } from '#contract/judging/judging.ts'
import { readRow, Table } from './table.ts'

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
