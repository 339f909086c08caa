import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Judgement, JudgingState } from '#contract/judging/judging.ts'
import { openHistory } from '#db/history.ts'
import type { RemoteWorkbench } from '#server/client.ts'
import { insertTranscript } from '../db/rows.ts'
import { startServer } from './servers.ts'
import { type Killed, type Killing, killHard, requireWhole } from './subject.ts'

const prompts = 100
const longestMilliseconds = 400
const verdicts: Judgement[] = ['left', 'right', 'tie', 'both bad']

/** The verdict on a pair, by its number, so that kept votes can be checked. */
const verdictOn = (pair: number) => verdicts[pair % verdicts.length] as Judgement

/** A judge in one judging: the votes cast and answered, and the pair on the screen. */
interface Judge {
  id: string
  cast: number
  open: JudgingState['next']
}

/** Votes as fast as the server answers, and kills the server during a vote or while the judge thinks. */
export async function killJudgings({ random, count, folder }: Killing): Promise<Killed> {
  const killed = { kills: 0, interrupted: 0, done: 0 }
  const history = openHistory(folder)
  const transcript = insertTranscript(history, prompts)
  history.close()
  let judge: Judge | undefined
  while (killed.kills < count) {
    const { child, remote } = await startServer(folder)
    judge = judge ? await returnTo(remote, judge) : await begin(remote, transcript)
    const voting = random() < 0.7 ? voteOn(remote, judge) : undefined
    await pause(random() * longestMilliseconds)
    if (await killHard(child)) killed.kills++
    const cut = await voting
    await remote.close()
    requireWhole(folder)
    if (cut) killed.interrupted++
    if (judge.open === null) {
      requireVotes(folder, judge)
      killed.done++
      judge = undefined
    }
  }
  if (judge) requireVotes(folder, judge)
  return killed
}

async function begin({ call }: RemoteWorkbench, transcript: string): Promise<Judge> {
  const { id, next } = await call('judgings.start', { transcript, seed: 1 })
  return { id, cast: 0, open: next }
}

/** Opens the page again: all answered votes must be there, and the same pair with the same sides, unless the last vote arrived. */
async function returnTo({ call }: RemoteWorkbench, { id, cast, open }: Judge): Promise<Judge> {
  const { votes, next, last } = await call('judgings.get', { id })
  const isSame = votes === cast && isDeepStrictEqual(next, open)
  const hasArrived = votes === cast + 1 && last === open?.pair
  if (!isSame && !hasArrived) throw new Error(`A judging of ${cast} votes has ${votes} after a kill, or another pair.`)
  return { id, cast: votes, open: next }
}

/** Votes until all pairs have a vote or the server is gone; true if it is gone. */
async function voteOn({ call }: RemoteWorkbench, judge: Judge): Promise<boolean> {
  while (judge.open) {
    const { pair } = judge.open
    const answered = await call('judgings.vote', { id: judge.id, pair, vote: verdictOn(pair) }).catch(() => undefined)
    if (!answered) return true
    judge.cast++
    judge.open = answered.next
  }
  return false
}

function requireVotes(folder: string, { id, cast }: Judge): void {
  const history = openHistory(folder)
  try {
    const votes = history.judgings.votes(history.judgings.find(id)?.number ?? -1)
    const wrong = votes.filter(({ pair, vote }) => vote !== verdictOn(pair))
    if (votes.length < cast || votes.length > cast + 1 || wrong.length > 0)
      throw new Error(`Of ${cast} votes ${votes.length} were kept, ${wrong.length} of them wrong.`)
  } finally {
    history.close()
  }
}
