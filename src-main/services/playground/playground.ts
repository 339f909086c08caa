import { EspalierError } from '#contract/errors.ts'
import type { PromptSet } from '#contract/playground/playground.ts'
import { paperPrompts } from '#contract/protocol.ts'
import { newId } from '#db/ids.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'
import { Talks } from './talks.ts'

/** The prompts of the paper's qualitative evaluation. */
const paperSet: PromptSet = { id: 'paper', name: 'The paper’s prompts', prompts: [...paperPrompts], builtIn: true }

/** Calls of the playground: sessions and prompt sets. */
export class PlaygroundService extends Service {
  readonly #talks = new Talks(this.parts, this.parts.library)

  readonly calls: Calls<'playground'> & Calls<'prompts'> = {
    'playground.start': (request) => this.#talks.start(request),
    'playground.stop': ({ id, column }) => {
      this.#talks.stop(id, column)
      return {}
    },
    'playground.release': () => {
      this.#talks.release()
      return {}
    },
    'prompts.list': () => [paperSet, ...this.history.promptSets.list()],
    'prompts.save': ({ name, prompts }) => {
      if (name === paperSet.name) throw new EspalierError('invalid', 'A prompt set of Espalier has this name. Choose another.')
      return this.history.promptSets.save({ id: newId('prompts'), name, prompts, createdAt: Date.now() })
    },
    'prompts.remove': ({ id }) => {
      if (id === paperSet.id) throw new EspalierError('conflict', 'This set is part of Espalier and cannot be deleted.')
      if (!this.history.promptSets.remove(id)) throw new EspalierError('not-found', `There is no prompt set ${id}.`)
      return {}
    },
  }
}
