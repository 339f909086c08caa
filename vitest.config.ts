import { env } from 'node:process'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'
import { keepCompiled } from './src-main/runtime/compiled.mjs'

// Two processes on two cores: each that loads TensorFlow takes 400 MB and must not start a thread for every core.
env.TF_NUM_INTRAOP_THREADS ??= '1'
env.TF_CPP_MIN_LOG_LEVEL ??= '2'

keepCompiled()

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  test: {
    name: 'node',
    environment: 'node',
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // A test that checks nothing fails.
    expect: { requireAssertions: true },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
