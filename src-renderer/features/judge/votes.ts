import type { Judgement } from '#contract/judging/judging.ts'

/** The votes in the order of their buttons, with the key of each. */
export const votes: readonly { vote: Judgement; title: string; key: string }[] = [
  { vote: 'left', title: 'A is better', key: 'a' },
  { vote: 'right', title: 'B is better', key: 'b' },
  { vote: 'tie', title: 'Tie', key: 't' },
  { vote: 'both bad', title: 'Both bad', key: 'x' },
]

export function voteOf(key: string): Judgement | undefined {
  return votes.find((one) => one.key === key.toLowerCase())?.vote
}
