/**
 * What pruning, repair and recovery do to answers:
 *
 *   npm run bench -- prompts MODEL CALIBRATION TEST FOLDER SEED RECOVERY [METHOD]
 *
 * Prunes with METHOD (2ssp) by half, repairs in order and recovers for RECOVERY, minutes ("10min") or tokens. Each of the four models
 * answers forty prompts greedily with up to 128 tokens. Prints a table of perplexities and repetition, and the answers to the six prompts
 * of the sample model's README side by side. What shares text with TEST is not trained on. Steps are kept in FOLDER and are not computed
 * again.
 */
import { argv } from 'node:process'
import { recoveryAmount } from '#cli/flags/flag-values.ts'
import { endsInLoop, repetitionRate } from '#contract/comparison/answer-statistics.ts'
import { generationSettings } from '#contract/playground/generation-settings.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { answerWith } from '#engine/evaluation/generation/generate-columns.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor, resolvePrecision } from '#engine/model/precision.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'
import { perplexitiesOf, readRepairText, testNames } from './folder-runs/repair-texts.ts'
import { prune, recover } from './folder-runs/stages.ts'

/** The prompts whose answers are printed. */
const shown = [
  'Who is Albert Einstein?',
  'The theory of relativity',
  'What is a dog?',
  'Define music',
  'What is a car?',
  'What does it mean to swim?',
]
const prompts = [
  ...shown,
  'What is a river?',
  'What is a volcano?',
  'What is the moon?',
  'What is bread made of?',
  'What is a library?',
  'What is electricity?',
  'Who was Marie Curie?',
  'Who was Julius Caesar?',
  'Who invented the telephone?',
  'Where is Brazil?',
  'Where do penguins live?',
  'When did the Second World War end?',
  'Why is the sky blue?',
  'Why do leaves fall in autumn?',
  'Why do we sleep?',
  'How does a bicycle stay upright?',
  'How do I boil an egg?',
  'How do birds fly?',
  'How many days has a year?',
  'Define justice',
  'Define a triangle',
  'Name three colours',
  'List four animals that live in the sea',
  'Explain gravity to a child',
  'Write a sentence about winter',
  'Once upon a time there was a fox who',
  'The capital of France is',
  'The first thing I saw in the morning was',
  'In the year 1900, most people',
  'The main cause of the fire was',
  'She opened the letter and',
  'A good teacher is someone who',
  'To plant a tree, you first',
  'The difference between a cat and a lion is',
]

const [modelPath = '', calibrationPath = '', testPath = '', folder = '', seedText = '0', recovery = '32768', method = '2ssp'] =
  argv.slice(2)
const seed = Number(seedText)
const amount = recoveryAmount(recovery, 'RECOVERY')
if (amount === 'none') throw new Error('RECOVERY is none. Give minutes such as 10min, or tokens such as 32768.')

await openBackend()
const opened = await openModel(modelPath)
const precision = resolvePrecision('auto', opened.spec)
const model = withProducts(opened, productsFor(precision))
const tokenizer = await openTokenizer(model.path)
const base = await baseOf(model, precision)
const newRun = () => new FolderRun(folder, base, seed)
const view = denseView(model)

const plan = await prune(model, calibrationPath, { method, sparsity: 0.5, seed }, newRun())
const windows = await readRepairText(model, calibrationPath, seed)
const repaired = await repairPlan({ view, plan, windows, kind: 'in-order', run: newRun() })
const recovered = await recover(model, { calibrationPath, testPath, seed }, amount, repaired, windows, newRun())
const { recovery: account, notes } = recovered
console.log(`Trained on ${account.tokens} tokens; weights of point ${account.best} of ${account.points.length - 1}.`, ...notes)

const views: [string, ModelView][] = [
  ['dense', view],
  [`${method}, 50 %`, viewWithPlan(model, plan)],
  ['repaired in order', viewWithPlan(model, repaired.plan, repaired.tensors)],
  ['recovered', viewWithPlan(model, recovered.plan, recovered.tensors)],
]
const answers = new Map<string, { text: string; ids: number[] }[]>()
console.log(
  `| model | ${testNames.join(' | ')} | repeated 4-grams | answers that end in a loop |\n|${' --- |'.repeat(testNames.length + 3)}`,
)
for (const [name, own] of views) {
  const found = await answersOf(own)
  answers.set(name, found)
  const perplexities = await perplexitiesOf(own, testPath)
  const repeated = found.reduce((sum, { ids }) => sum + repetitionRate(ids), 0) / found.length
  const looping = found.filter(({ ids }) => endsInLoop(ids)).length
  const columns = testNames.map((test) => perplexities[test]?.toFixed(1))
  console.log(`| ${[name, ...columns, repeated.toFixed(2), `${looping} of ${found.length}`].join(' | ')} |`)
}
for (const [index, prompt] of shown.entries()) {
  console.log(`\n**${prompt}**\n`)
  for (const [name, found] of answers) console.log(`- ${name}: ${found[index]?.text.trim().replaceAll(/\s+/g, ' ')}`)
}
for (const [, own] of views) own.dispose()
await model.close()

async function answersOf(own: ModelView): Promise<{ text: string; ids: number[] }[]> {
  const settings = generationSettings.parse({ decoding: { kind: 'sampling', temperature: 0 }, maxTokens: 128 })
  const request = { prompts: prompts.map((text) => ({ text })), settings }
  const found: { text: string; ids: number[] }[] = []
  for (const prompt of prompts.keys()) {
    const answer = await answerWith({ request, view: own, tokenizer, column: 0, prompt, signal: new AbortController().signal })
    found.push({ text: answer.text, ids: answer.tokens.map(({ id }) => id) })
  }
  return found
}
