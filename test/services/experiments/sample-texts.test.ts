import { expect, test } from 'vitest'
import { isOfSample } from '#contract/models/models.ts'
import { catalogue } from '#contract/pruning/methods.ts'
import { describeCatalogue } from '#engine/tasks/catalogue.ts'
import { resources } from '#runtime/resources.ts'
import { presetsFor } from '#services/experiments/presets.ts'

const offered = catalogue.parse(await describeCatalogue({ sample: `${resources}/sample-model`, questions: `${resources}/questions` }))

test('only the sample model and what was pruned from it begin with the sample’s texts', () => {
  const textsOf = (ofSample: boolean) =>
    presetsFor(
      { id: 'model', contextLength: 512, parameters: 1e8, hidden: 576, ofSample, holdsGguf: true, siblings: [], feasible: [] },
      offered,
    ).map(({ id, grid }) => [
      id,
      grid.calibration?.source,
      ...grid.measures.flatMap((measure) => (measure.kind === 'perplexity' ? [measure.data.source] : [])),
    ])
  expect(textsOf(true)[0]?.join()).toMatch(/^quick-look,.*calibration\.txt,.*test\.txt$/)
  expect(textsOf(false)[0]).toEqual(['quick-look', 'mixed', 'prose'])
  expect(textsOf(false).join()).not.toContain('sample-model')
})

test('a model is of the sample through any number of parents', () => {
  const models = [
    { id: 'sample', origin: 'bundled', parent: null },
    { id: 'halved', origin: 'exported', parent: 'sample' },
    { id: 'quarter', origin: 'exported', parent: 'halved' },
    { id: 'own', origin: 'linked', parent: null },
    { id: 'orphan', origin: 'exported', parent: 'removed' },
  ] as const
  expect(models.filter(({ id }) => isOfSample(id, models)).map(({ id }) => id)).toEqual(['sample', 'halved', 'quarter'])
})
