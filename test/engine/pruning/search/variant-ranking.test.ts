import { describe, expect, test } from 'vitest'
import { certify, settle } from '#engine/pruning/search/variant-ranking.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const smallest = (scores: ArrayLike<number>, count: number) =>
  [...Array(scores.length).keys()].sort((a, b) => (scores[a] as number) - (scores[b] as number) || a - b).slice(0, count)

type Earlier = { rescored: number; error: number }[]

/** Certifies estimates of scores with known exact values per window; returns which candidates had to be scored again. */
async function chooseByWindows(
  exact: number[][],
  estimates: number[][],
  survivors: number,
  earlier: Earlier = [{ rescored: 20, error: 0 }],
) {
  const asked: string[] = []
  const windows = exact[0]?.length ?? 0
  const shares = Array.from({ length: windows }, () => 1 / windows)
  const scores = estimates.map((own) => Float64Array.from(own))
  const found = await certify({ scores, shares }, survivors, earlier, async (looks) => {
    asked.push(...looks.map(({ place, window }) => `${place}/${window}`))
    return Float64Array.from(looks, ({ place, window }) => exact[place]?.[window] as number)
  })
  return { ...found, asked: asked.sort() }
}

/** The same with one window. */
async function choose(exact: number[], estimates: number[], survivors: number, earlier?: Earlier) {
  const alone = (scores: number[]) => scores.map((score) => [score])
  const { asked, ...found } = await chooseByWindows(alone(exact), alone(estimates), survivors, earlier)
  return { ...found, asked: asked.map((look) => Number.parseInt(look, 10)) }
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

  test('an estimate of nothing has a small error, as rounding leaves it, and does not widen the bound of others', async () => {
    const { asked, certificate } = await choose([1e-7, 1, 1.1, 1.2, 1.3, 1.4], [0, 1, 1.1, 1.2, 1.3, 1.4], 1)
    expect(asked).toEqual([0, 1])
    expect(certificate.error).toBeLessThan(1e-3)
  })

  test('errors of earlier rounds widen the bound', async () => {
    const exact = [1, 1.1, 1.2, 1.3]
    expect((await choose(exact, exact, 1, [{ rescored: 20, error: 0.065 }])).asked).toEqual([0, 1, 2])
    expect((await choose(exact, exact, 1, [])).asked).toEqual([0, 1, 2, 3])
  })

  test('errors grow with scores, so a bad score with a large error widens the bound of good ones little', async () => {
    const exact = [1, 1.05, 1.2, 8]
    const { survivors, asked } = await choose(exact, [1.001, 1.05, 1.2, 8.1], 1, [])
    expect(survivors).toEqual([0])
    expect(asked).toEqual([0, 1, 2, 3])
    // The error of 0.1 is an eightieth of its score.
    expect((await choose(exact, exact, 1, [{ rescored: 20, error: 0.1 / 8 }])).asked).toEqual([0, 1])
  })

  test('NaN is scored again', async () => {
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
        const { survivors, estimated, certificate } = await choose(exact, estimates, 2, earlier)
        expect(survivors).toEqual(smallest(exact, 2))
        expect(survivors.some((place) => estimated.includes(place))).toBe(false)
        earlier.push(certificate)
        rescored += certificate.rescored
      }
    }
    expect(rescored / 400).toBeLessThan(6)
  })

  test('need one window for clear winners', async () => {
    const exact = [Array(16).fill(1.5), Array(16).fill(1), Array(16).fill(2)]
    const estimates = exact.map((own, place) => own.map((score) => score + 0.3 + 0.01 * place))
    const { survivors, estimated, asked, scores } = await chooseByWindows(exact, estimates, 1)
    expect({ survivors, estimated, asked }).toEqual({ survivors: [1], estimated: [0, 1, 2], asked: ['0/0', '1/0'] })
    expect(scores[1]).toBeCloseTo(1 + (15 / 16) * 0.005, 6)
  })

  test('need as many windows for rivals as tell them apart, and skip what is far behind', async () => {
    // On one window the second is better; estimates differ by up to 0.02.
    const exact = [
      [1.2, 1, 1, 1],
      [1, 1.1, 1.1, 1.1],
      [2, 2, 2, 2],
    ]
    const estimates = exact.map((own, place) => own.map((score) => score + 0.02 * (place % 2)))
    const earlier = [{ rescored: 20, error: 0.015 }]
    const { survivors, estimated, asked } = await chooseByWindows(exact, estimates, 1, earlier)
    expect(survivors).toEqual([0])
    expect(asked).toEqual(['0/0', '0/1', '1/0', '1/1'])
    expect(estimated).toEqual([0, 1, 2])
    const close = await chooseByWindows([[1.2, 1, 1, 1], [1, 1.066, 1.066, 1.066], ...exact.slice(2)], estimates, 1, earlier)
    expect({ survivors: close.survivors, estimated: close.estimated }).toEqual({ survivors: [1], estimated: [2] })
  })

  test('no choice on many windows among noisy estimates differs from the exact one, and not all windows are looked at', async () => {
    const random = new PythonRandom(6)
    const uniform = () => random.integer(0, 1_000_000) / 1_000_000
    let [looks, all] = [0, 0]
    for (let search = 0; search < 20; search++) {
      const earlier: Earlier = []
      for (let round = 0; round < 20; round++) {
        const exact = Array.from({ length: 3 }, () => {
          const level = 3 + uniform() * 0.1
          return Array.from({ length: 8 }, () => level + uniform() * 0.5)
        })
        const shifts = Array.from({ length: 8 }, () => uniform() * 0.01)
        const estimates = exact.map((own) => {
          const systematic = (uniform() - 0.5) * 0.004
          return own.map((score, window) => score + (shifts[window] as number) + systematic + (uniform() - 0.5) * 0.004)
        })
        const { survivors, certificate, asked } = await chooseByWindows(exact, estimates, 1, earlier)
        const means = exact.map((own) => own.reduce((sum, score) => sum + score, 0) / own.length)
        expect(survivors).toEqual(smallest(means, 1))
        earlier.push(certificate)
        looks += asked.length
        all += 24
      }
    }
    expect(looks / all).toBeLessThan(0.4)
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

  test('that are NaN are scored again', async () => {
    expect(await settled([Number.NaN, 2, Number.NaN], 1)).toMatchObject({ asked: [0, 1, 2] })
  })
})
