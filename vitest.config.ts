import { env } from 'node:process'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'
import { keepCompiled } from './src-main/runtime/compiled.mjs'
import { patience } from './test/patience.ts'
import WaitingFirst from './test/waiting-first.ts'

// Each process that loads TensorFlow takes 400 MB and must not start a thread for every core. Threads of llama.cpp that wait for each
// other on a busy machine took ten times the processor time of one.
env.TF_NUM_INTRAOP_THREADS ??= '1'
env.TF_CPP_MIN_LOG_LEVEL ??= '2'

keepCompiled()

/** Folders and files that may share a process, as they change nothing that another file could see: no `vi.resetModules`, no `vi.mock`. It saves 0.3 s of processor time a file. */
const sharing = [
  'cli/{commands,flags}',
  'contract',
  'db',
  'docs',
  'engine/{architectures,budgets,checkpoint,data,estimate,evaluation,export,random,steps,tensor,tokenizer}',
  'engine/model/{decoding,parts,views}',
  'engine/pruning/{ablations,experts,gates,methods,recovery,repair,search}',
  'hub',
  'server/guard',
  'services/{comparison,experiments,machine,models,report,runs}',
  'src-renderer',
].map((folder) => `test/${folder}/**/*.test.ts`)

sharing.push(
  'test/{architecture,shown-commands,waiting-first}.test.ts',
  'test/cli/recover-flag.test.ts',
  'test/engine/model/weights/{weights,zeroed-parts}.test.ts',
  'test/engine/pruning/{budget,counts,one-model-at-once}.test.ts',
  'test/engine/tasks/{begin-token,check-request,look-at-text,recovered-run,speed-range,trimmed-vocabulary}.test.ts',
  'test/engine/tasks/run/{run-steps,trim-first}.test.ts',
  'test/jobs/{progress,run-log,this-machine}.test.ts',
  'test/jobs/cluster/{run-file,shared-steps,slurm}.test.ts',
  'test/runtime/{lock,model-links,small-file}.test.ts',
  'test/server/{client,openapi}.test.ts',
  'test/services/{hide-places,run-names}.test.ts',
  'test/setup/{audit,licences,planning,scripts,shipped,tools}.test.ts',
)

/** Files that take most of the time: journeys in a browser, whole commands, killed processes, and every recorded model. `npm test -- --long` and `.ci/run` run them. */
const long = [
  'e2e/{bulk,clicks,journey,keyboard,names-and-notes,numbers,quick,recovery,repair,truth,typed,vocabulary,what-broke}',
  'jobs/{kill,kill-recovery}',
  'services/{replaced-model,same-as-fresh}',
  'cli/{demo,prune,refusals,save-refusals}',
  'engine/backend/native',
  'engine/data/count-tokens',
  'engine/export/{gguf/same-as-llama,mixed-types/mixed-types}',
  'engine/pruning/{every-method,mixed-parity}',
  'engine/pruning/ablations/parity',
  'engine/pruning/gates/gate-pass',
  'engine/pruning/methods/{2ssp-experts,depth-scores,evopress,reap,slicegpt,vocabulary}',
  'engine/pruning/recovery/{families,recover}',
  'engine/tasks/weight-types',
].map((file) => `test/${file}.test.ts`)

const slurm = 'test/slurm/**/*.test.ts'
/** Only in a real window. */
const window = 'test/window/**/*.test.ts'
/** In a browser (project `long`) and again in a real window. */
const screens = 'test/e2e/{clicks,journey,keyboard,recovery,truth}.test.ts'

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  test: {
    projects: [
      { extends: true, test: { name: 'own', include: ['test/**/*.test.ts'], exclude: [...sharing, ...long, slurm, window] } },
      { extends: true, test: { name: 'long', include: long } },
      { extends: true, test: { name: 'shared', include: sharing, exclude: long, isolate: false } },
      { extends: true, test: { name: 'slurm', include: [slurm] } },
      {
        extends: true,
        test: { name: 'window', include: [window, screens], globalSetup: 'test/window/prepare.ts', env: { ESPALIER_TEST_WINDOW: '1' } },
      },
    ],
    environment: 'node',
    pool: 'forks',
    // Tensors outside the heap start its collection so often that collecting with several threads takes a fifth of the processor time.
    execArgv: ['--single-threaded-gc'],
    // One more than the cores of a small machine, as the longest files wait half of their time.
    maxWorkers: 3,
    sequence: { sequencer: WaitingFirst },
    // A test that checks nothing fails. By default a poll gives up after a second, which a busy machine can take for anything.
    expect: { requireAssertions: true, poll: { timeout: 30_000 * patience } },
    // Only a test that hangs waits for it: what is waited for has a limit of its own that says what was missing.
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
