import type { JudgedSides, Judgement } from '#contract/judging/judging.ts'
import type { Database } from './database.ts'

interface JudgingRow {
  number: number
  id: string
  title: string
  transcript: string
  pairs: string
  created_at: number
  votes: number
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

/** Blind judging: the drawn pairs, and one vote per pair. */
export function judgingsTable(db: Database) {
  const insert = db.prepare(
    'INSERT INTO judgings(id, title, transcript, pairs, created_at) SELECT @id, @title, number, @pairs, @createdAt FROM transcripts WHERE id = @transcript',
  )
  const joined = `SELECT j.number, j.id, j.title, t.id AS transcript, j.pairs, j.created_at, (SELECT count(*) FROM judging_votes WHERE judging = j.number) AS votes
    FROM judgings j JOIN transcripts t ON t.number = j.transcript`
  const find = db.prepare(`${joined} WHERE j.id = ?`)
  const list = db.prepare(`${joined} ORDER BY j.created_at DESC, j.number DESC LIMIT 500`)
  const vote = db.prepare('INSERT OR REPLACE INTO judging_votes(judging, pair, vote, at) VALUES (?, ?, ?, ?)')
  const takeBack = db.prepare('DELETE FROM judging_votes WHERE judging = ? AND pair = ?')
  const votes = db.prepare('SELECT pair, vote, at FROM judging_votes WHERE judging = ? ORDER BY at, pair')
  const remove = db.prepare('DELETE FROM judgings WHERE id = ?')
  return {
    insert: ({ pairs, ...judging }: Omit<StoredJudging, 'number' | 'votes'>) => insert.run({ ...judging, pairs: JSON.stringify(pairs) }),
    find(id: string): StoredJudging | undefined {
      const row = find.get(id) as JudgingRow | undefined
      return row && toJudging(row)
    },
    list: () => (list.all() as JudgingRow[]).map(toJudging),
    vote: (judging: number, { pair, vote: given, at }: StoredVote) => vote.run(judging, pair, given, at),
    takeBack: (judging: number, pair: number) => takeBack.run(judging, pair),
    votes: (judging: number) => votes.all(judging) as StoredVote[],
    remove: (id: string) => remove.run(id).changes === 1,
  }
}

function toJudging({ created_at: createdAt, pairs, ...row }: JudgingRow): StoredJudging {
  return { ...row, createdAt, pairs: JSON.parse(pairs) as JudgedSides[] }
}
