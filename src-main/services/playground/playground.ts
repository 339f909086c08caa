import { EspalierError } from '#contract/errors.ts'
import type { PromptSet } from '#contract/playground/playground.ts'
import { paperPrompts } from '#contract/protocol.ts'
import { newId } from '#db/ids.ts'
import type { Context, Service } from '../context.ts'
import type { Library } from '../models/library.ts'
import { Talks } from './talks.ts'

/** The prompts of the paper's qualitative evaluation. */
const paperSet: PromptSet = { id: 'paper', name: 'The paper’s prompts', prompts: [...paperPrompts], builtIn: true }

/** Calls of the playground: sessions and prompt sets. */
export function playgroundService(context: Context, library: Library): Service<'playground'> & Service<'prompts'> {
  const { promptSets } = context.history
  const talks = new Talks(context, library)
  return {
    'playground.start': (request) => talks.start(request),
    'playground.stop'({ id, column }) {
      talks.stop(id, column)
      return {}
    },
    'playground.release'() {
      talks.release()
      return {}
    },
    'prompts.list': () => [paperSet, ...promptSets.list()],
    'prompts.save'({ name, prompts }) {
      if (name === paperSet.name) throw new EspalierError('invalid', 'A prompt set of Espalier has this name. Choose another.')
      return promptSets.save({ id: newId('prompts'), name, prompts, createdAt: Date.now() })
    },
    'prompts.remove'({ id }) {
      if (id === paperSet.id) throw new EspalierError('conflict', 'This set is part of Espalier and cannot be deleted.')
      if (!promptSets.remove(id)) throw new EspalierError('not-found', `There is no prompt set ${id}.`)
      return {}
    },
  }
}
