import { call } from '../api/api.ts'
import { catalogue } from '../lib/catalogue.svelte.ts'
import { notifyProblem } from '../lib/notices.svelte.ts'
import { queue } from '../lib/queue.svelte.ts'
import { router } from '../lib/router.svelte.ts'
import { debounce } from '../lib/schedule.ts'
import { theme } from '../lib/theme.svelte.ts'
import { type Command, matchCommands } from './palette.ts'
import { sections } from './sections.ts'

/** The open palette. It offers screens, models, experiments and runs, and the actions that work on every screen. */
export class PaletteState {
  text = $state('')
  active = $state(0)
  #found = $state.raw<Command[]>([])
  /** Runs of the whole history that contain the typed words. */
  #searched = $state.raw<Command[]>([])

  readonly shown: Command[] = $derived(matchCommands([...screens(), ...actions(), ...this.#found], this.text, this.#searched))

  readonly #searchSoon = debounce((text: string) => void this.#search(text), 150)

  /** Reloads models, experiments and the latest runs. */
  async open(): Promise<void> {
    this.text = ''
    this.active = 0
    this.#searched = []
    const [models, experiments, runs] = await Promise.all([
      call('models.list', {}).catch(() => []),
      call('experiments.list', {}).catch(() => []),
      findRuns(''),
    ])
    this.#found = [
      ...models.map(({ id, name, description }) => go('Model', name, catalogue.familyTitle(description.family), ['models', id])),
      ...experiments.map(({ id, name }) => go('Experiment', name, '', ['experiments', id])),
      ...runs,
    ]
  }

  async #search(text: string): Promise<void> {
    const runs = text.trim() === '' ? [] : await findRuns(text)
    if (text === this.text) this.#searched = runs
  }

  type(text: string): void {
    this.text = text
    this.active = 0
    this.#searchSoon(text)
  }

  move(step: number): void {
    const count = this.shown.length
    if (count > 0) this.active = (this.active + step + count) % count
  }
}

/** The latest runs that contain these words. */
function findRuns(search: string): Promise<Command[]> {
  return call('runs.query', { search, limit: 50, columns: [] }).then(
    ({ rows }) => rows.map(({ id, name, model, status }) => go('Run', name, `${model.name}, ${status}`, ['run', id])),
    () => [],
  )
}

function go(kind: string, title: string, note: string, path: string[]): Command {
  return { id: path.join('/'), kind, title, note, run: () => router.go(path) }
}

function screens(): Command[] {
  return sections.map(({ id, title, key }) => ({ ...go('Screen', title, '', [id]), note: `g ${key}` }))
}

function actions(): Command[] {
  const paused = queue.state?.paused ?? false
  const act = (title: string, run: () => void): Command => ({ id: `do/${title}`, kind: 'Action', title, run })
  return [
    act(paused ? 'Resume the queue' : 'Pause the queue', () => {
      void call(paused ? 'queue.resume' : 'queue.pause', {}).then(queue.set, notifyProblem)
    }),
    act('Light theme', () => theme.set('light')),
    act('Dark theme', () => theme.set('dark')),
    act('System theme', () => theme.set('system')),
  ]
}
