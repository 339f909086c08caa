import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { layOut, makeValidMixture, toSafetensors, writeModelFiles } from '../engine/checkpoint/valid-model.ts'
import { mutateJson } from './mutate.ts'
import type { Random } from './random.ts'

const mixture = makeValidMixture()
const { header, data } = layOut(mixture.tensors)
const experts = {
  kept: 'all',
  experts: [0, 1, 3],
  keptByExpert: [
    [0, 1],
    [2, 3],
    [4, 5],
  ],
  constants: [2],
}
const layout = {
  ...{ format: 1, parent: 'x', method: 'reap' },
  blocks: [
    { attention: true, width: 2, experts: 4, constants: [2] },
    { attention: true, width: 12, experts: 4 },
  ],
  plan: {
    blocks: [
      { attention: 'kept', mlp: experts },
      { attention: 'kept', mlp: { kept: 'all' } },
    ],
  },
}

/** A valid folder of a mixture with one file of it spoiled. */
const mixtureAttack = (name: string, spoil: (random: Random) => Uint8Array) => ({
  async write(folder: string, random: Random) {
    await writeModelFiles(folder, mixture)
    writeFileSync(join(folder, name), spoil(random))
  },
  read: describeModel,
})

const json = (value: unknown) => Buffer.from(JSON.stringify(value) ?? 'null')

/** Mixtures of experts: their config, their tensors, and what is left of them. */
export const mixtureAttacks = {
  'mixture config': mixtureAttack('config.json', (random) => json(mutateJson(mixture.config, random))),
  'mixture header': mixtureAttack('model.safetensors', (random) => toSafetensors(mutateJson(header, random), data)),
  'mixture layout': mixtureAttack('espalier.json', (random) => json(mutateJson(layout, random))),
}
