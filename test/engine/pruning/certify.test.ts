import { describe, expect, test } from 'vitest'
import { certify, settle } from '#engine/pruning/certify.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const smallest = (scores: ArrayLike<number>, count: number) =>
  [...Array(scores.length).keys()].sort((a, b) => (scores[a] as number) - (scores[b] as number) || a - b).slice(0, count)

/** Certifies the estimates of known scores, and counts what had to be scored again. */
async function choose(exact: number[], estimates: number[], survivors: number, earlier = [{ rescored: 20, error: 0 }]) {
  const asked: number[] = []
  const found = await certify(Float64Array.from(estimates), survivors, earlier, async (places) => {
    asked.push(...places)
    return Float64Array.from(places, (place) => exact[place] as number)
  })
  return { ...found, asked }
}

describe('certified scores', () => {
  test('name the exact survivors where estimates would name others', async () => {
    const exact = [3, 1.0, 1.001, 1.5, 2]
    const { scores, estimated, asked } = await choose(exact, [3, 1.003, 1.0, 1.5, 2], 1)
    expect(scores.slice(1, 3)).toEqual(Float64Array.from([1.0, 1.001]))
    expect(estimated).toEqual([0, 3, 4])
    expect(asked.toSorted()).toEqual([1, 2])
  })

  test('an offset that all estimates share costs nothing', async () => {
    const exact = [1, 1.1, 1.2, 1.3]
    const { asked } = await choose(
      exact,
      exact.map((score) => score + 5),
      1,
    )
    expect(asked).toEqual([0, 1])
  })

  test('errors of earlier rounds widen the bound', async () => {
    const exact = [1, 1.1, 1.2, 1.3]
    expect((await choose(exact, exact, 1, [{ rescored: 20, error: 0.08 }])).asked).toEqual([0, 1, 2])
    expect((await choose(exact, exact, 1, [])).asked).toEqual([0, 1, 2, 3])
  })

  test('what is no number is scored again', async () => {
    const { scores, asked } = await choose([2, 1, 3], [2, Number.NaN, 3], 1)
    expect(asked).toContain(1)
    expect(scores[1]).toBe(1)
  })

  test('no choice among noisy estimates differs from the exact one, and few are scored again', async () => {
    const random = new PythonRandom(5)
    const uniform = () => random.integer(0, 1_000_000) / 1_000_000
    let rescored = 0
    for (let search = 0; search < 20; search++) {
      const earlier: { rescored: number; error: number }[] = []
      for (let round = 0; round < 20; round++) {
        const exact = Array.from({ length: 30 }, () => 3 + uniform() * 0.3)
        const shift = uniform() * 0.01
        const estimates = exact.map((score) => score + shift + (uniform() + uniform() + uniform() - 1.5) * 0.004)
        const { scores, estimated, certificate } = await choose(exact, estimates, 2, earlier)
        const ranked = scores.map((score, place) => (estimated.includes(place) ? Number.POSITIVE_INFINITY : score))
        expect(smallest(ranked, 2)).toEqual(smallest(exact, 2))
        earlier.push(certificate)
        rescored += certificate.rescored
      }
    }
    expect(rescored / 400).toBeLessThan(6)
  })
})

describe('scores that a closer look does not tell apart', () => {
  const settled = async (scores: number[], survivors: number, places = [...scores.keys()]) => {
    const asked: number[] = []
    const found = await settle(Float64Array.from(scores), places, survivors, 0.01, async (again) => {
      asked.push(...again)
      return Float64Array.from(again, (place) => 100 + place)
    })
    return { found: [...found], asked: asked.sort() }
  }

  test('are scored again where the choice depends on them', async () => {
    expect(await settled([2, 1.005, 1, 3], 1)).toEqual({ found: [2, 101, 102, 3], asked: [1, 2] })
    expect(await settled([1, 1, 1.009, 1.018, 2], 1)).toMatchObject({ asked: [0, 1, 2, 3] })
    expect(await settled([1, 2, 2.01, 2.5], 2)).toMatchObject({ asked: [1, 2] })
  })

  test('stay where it does not', async () => {
    expect(await settled([1, 2, 2.01], 1)).toEqual({ found: [1, 2, 2.01], asked: [] })
    expect(await settled([1, 1, 2], 1, [0, 2])).toMatchObject({ asked: [] })
  })

  test('that are no numbers are scored again', async () => {
    expect(await settled([Number.NaN, 2, Number.NaN], 1)).toMatchObject({ asked: [0, 1, 2] })
  })
})
