import { at } from '#contract/at.ts'
import type { History } from '#db/history.ts'
import { newId } from '#db/ids.ts'
import { describedModel } from '../fixtures/described-model.ts'

/** Writes runs of six methods on two models, some on a cluster, with measures, parameters, tags and notes: a history as large as a year's work. */
export function fillHistory(history: History, runs: number, measures: number): void {
  const { transaction, models, experiments, runs: table, documents, measures: results } = history
  const methods = ['2ssp', 'shortgpt', 'window_based', 'blockpruner', 'evopress', 'slicegpt']
  transaction(() => {
    const added = ['sample', 'SmolLM2-135M-Instruct'].map((name) => ({
      id: newId('model'),
      name,
      path: `/${name}`,
      origin: 'linked' as const,
      source: null,
      description: describedModel(),
      bytes: 1,
      parent: null,
      run: null,
      createdAt: 1,
    }))
    for (const model of added) models.insert(model)
    for (let e = 0; e < 100; e++)
      experiments.insert({ id: `exp-${e}00`, name: `experiment ${e}`, notes: '', tags: [], grid: null, createdAt: e })
    for (let r = 0; r < runs; r++) {
      const number = table.insert({
        id: newId('run'),
        name: `run ${r}`,
        status: r % 10 === 0 ? 'failed' : 'done',
        experiment: `exp-${r % 100}00`,
        model: at(added, Math.floor(r / 2) % 2).id,
        method: methods[r % 6] as string,
        baseline: false,
        seed: r % 5,
        nominal: (r % 8) / 10,
        parent: null,
        executor: r % 2000 === 1999 ? 'far cluster' : null,
        tags: r % 3 === 0 ? [`tag ${r % 9}`] : [],
        notes: r % 7 === 0 ? 'more calibration windows' : '',
        createdAt: r * 3_600_000,
        parameters: {
          alpha: (r % 30) / 10,
          norm: (r % 2) + 1,
          'calibration.windows': 2 ** (r % 8),
          'calibration.source': 'wikitext2',
          exact: r % 2 === 0,
        },
      })
      table.patch(number, { started_at: r * 3_600_000 + 60_000 })
      documents.insert(number, {
        model: '/sample',
        method: '2ssp',
        amount: { sparsity: 0.5 },
        options: {},
        seed: 0,
        measures: [],
        backend: 'auto',
      })
      for (let m = 0; m < measures; m++)
        results.add(number, { name: 'perplexity', dataset: `data ${m}`, value: 10 + ((r * 31 + m * 17) % 997) / 10, unit: '' }, r)
    }
  })
}
