/** Answers of one sequence here and in llama.cpp from one file, in turns, at one thread and at all, in several types: `npm run bench -- --decode`. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { env, execPath } from 'node:process'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { hermeticEnvironment } from '#jobs/compute/environment.ts'
import { runTool } from '../../../src-main/setup/tools.mjs'
import { Llama } from '../../interop/llama.ts'

const rounds = 3
const [promptTokens, decoded] = [16, 64]

/** The file types compared. Espalier reads each as it is stored, and computes in float32. */
const types = ['F32', 'BF16', 'Q8_0', 'Q4_K_M'] as const

/** Prints a model's tokens per second, round by round as they are measured, and the ratio of the medians. */
export async function compareAnswers(path: string): Promise<void> {
  const llama = new Llama()
  const folder = await mkdtemp(join(tmpdir(), 'espalier-answers-'))
  try {
    await writeFiles(path, folder)
    console.log(`${basename(path)} on ${cpus()[0]?.model}, ${decoded} tokens after ${promptTokens}, tokens a second`)
    for (const threads of new Set([1, availableParallelism()])) {
      for (const type of types) {
        const file = join(folder, 'files', (await readdir(join(folder, 'files'))).find((name) => name.endsWith(`-${type}.gguf`)) ?? '')
        const pairs: [number, number][] = []
        for (let round = 0; round < rounds; round++) {
          const ours = await answerHere(file, threads)
          const prompt = Array.from({ length: promptTokens }, (_, i) => i * 37 + 11)
          const { tokensPerSecond: theirs } = await llama.ask({ file, threads, prompt, tokens: decoded + 1 })
          pairs.push([ours, theirs])
        }
        const rates = pairs.map(([ours, theirs]) => `${ours.toFixed(1)} : ${theirs.toFixed(1)}`).join(', ')
        const ratios = pairs.map(([ours, theirs]) => ours / theirs).sort((a, b) => a - b)
        console.log(`${threads} threads, ${type}: ${rates}; ratio ${ratios.map((ratio) => ratio.toFixed(2)).join(' – ')}`)
      }
    }
  } finally {
    llama.end()
    await rm(folder, { recursive: true, force: true })
  }
}

async function writeFiles(path: string, folder: string): Promise<void> {
  await openBackend('auto')
  const model = await openModel(path)
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: join(folder, 'files'), ggufTypes: types })
  await model.close()
}

/** Our tokens per second, in a separate process. */
async function answerHere(path: string, threads: number): Promise<number> {
  const args = [path, '--only', 'one', '--tokens', String(decoded)]
  const { code, output } = await runTool(
    execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../decode.ts'), ...args],
    { env: hermeticEnvironment(env, { TF_NUM_INTRAOP_THREADS: String(threads) }), seconds: 600 },
  )
  if (code !== 0) throw new Error(`decode.ts failed:\n${output.slice(-1000)}`)
  return Number(output.trim().split('\n').at(-1))
}
