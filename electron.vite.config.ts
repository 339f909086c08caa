import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { env } from 'node:process'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'electron-vite'

const root = import.meta.dirname

/** The entries that exist: a part that is not there yet does not stop the others from being built. */
function present(entries: Record<string, string>): Record<string, string> {
  const found = Object.entries(entries).filter(([, file]) => existsSync(join(root, file)))
  return Object.fromEntries(found.map(([name, file]) => [name, join(root, file)]))
}

const main = present({
  window: 'src-main/electron/main.ts',
  server: 'src-main/server/main.ts',
  compute: 'src-main/compute/main.ts',
  llama: 'src-main/engine/llama/child.ts',
  cli: 'src-main/cli/main.ts',
})
const preload = present({ preload: 'src-main/electron/preload.ts' })
const renderer = present({ index: 'src-renderer/index.html' })
const isAny = (entries: Record<string, string>) => Object.keys(entries).length > 0
/** Set-up builds the screens for every command, and the window's own code only where one opens; `npm run build` both. */
const isWanted = (part: 'screens' | 'window') => !env.ESPALIER_BUILD || env.ESPALIER_BUILD === part

/** The commit that is built, for the box that says what this program is. */
function commitOf(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return ''
  }
}

const define = { __COMMIT__: JSON.stringify(commitOf()) }

export default defineConfig({
  ...(isWanted('window') &&
    isAny(main) && {
      main: {
        define,
        publicDir: false,
        build: {
          outDir: 'out/main',
          // No folder for chunks: `import.meta.dirname` must mean the same in an entry and in what it shares.
          rolldownOptions: { input: main, output: { chunkFileNames: '[name]-[hash].js' } },
        },
      },
    }),
  ...(isWanted('window') &&
    isAny(preload) && {
      preload: {
        publicDir: false,
        build: {
          outDir: 'out/preload',
          // A sandboxed preload must be one CommonJS file with everything inside.
          externalizeDeps: false,
          rolldownOptions: { input: preload, output: { format: 'cjs', entryFileNames: '[name].cjs' } },
        },
      },
    }),
  ...(isWanted('screens') &&
    isAny(renderer) && {
      renderer: {
        root: 'src-renderer',
        define,
        plugins: [svelte({ configFile: false })],
        // What jsPDF would load to draw whole pages of HTML is never asked for.
        build: {
          outDir: join(root, 'out/renderer'),
          emptyOutDir: true,
          minify: true,
          rolldownOptions: {
            input: renderer,
            external: ['html2canvas', 'canvg', 'dompurify'],
            // Zod is configured in its own chunk, so before any other chunk makes a schema.
            output: { codeSplitting: { groups: [{ name: 'zod', test: /no-generated-code|node_modules[\\/]zod/ }] } },
          },
        },
      },
    }),
})
