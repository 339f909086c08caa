import { EspalierError, toErrorMessage } from '#contract/errors.ts'
import { type GenerationEvent, type GenerationRequest, generationEvent } from '#contract/generation.ts'
import type { PromptSet, SessionRequest, Transcript, TranscriptColumn, TranscriptEntry } from '#contract/playground.ts'
import { paperPrompts } from '#contract/protocol.ts'
import { newId } from '#db/ids.ts'
import type { Job } from '#jobs/compute-host.ts'
import type { Context, Service } from './context.ts'
import type { Library } from './library.ts'
import { currentSettings } from './settings.ts'

/** The prompts of the paper's qualitative evaluation. */
const paperSet: PromptSet = { id: 'paper', name: 'The paper’s prompts', prompts: [...paperPrompts], builtIn: true }

/** Generates with several views of one model, and keeps every answer as it ends, so that none is lost. */
export function playgroundService(context: Context, library: Library): Service<'playground'> & Service<'prompts'> {
  const { history, playground, emit, owner } = context
  const sessions = new Map<string, Job>()

  function columnsOf({ columns }: SessionRequest): { model: string; plans: GenerationRequest['columns']; described: TranscriptColumn[] } {
    const resolved = columns.map(({ model, run }) => {
      if (run === undefined) {
        if (model === undefined) throw new EspalierError('invalid', 'A column needs a model or a run.')
        return { model: library.find(model), plan: null, run: null }
      }
      const row = history.runs.find(run)
      if (!row) throw new EspalierError('not-found', `There is no run ${run}.`)
      if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan yet: it is ${row.status}.`)
      const plan = row.baseline ? null : history.documents.plan(row.number)
      return {
        model: library.find(row.model),
        plan,
        run: { id: row.id, name: row.name, method: row.method, reached: row.reached },
      }
    })
    const [first] = resolved
    const other = resolved.find(({ model }) => model.id !== first?.model.id)
    if (!first || other)
      throw new EspalierError(
        'conflict',
        `All columns must belong to one model; ${first?.model.name} and ${other?.model.name} are two. Open the other in a session of its own.`,
      )
    return {
      model: first.model.path,
      plans: resolved.map(({ plan }) => ({ plan })),
      described: resolved.map(({ model, run }) => ({ model: { id: model.id, name: model.name }, run })),
    }
  }

  function start(request: SessionRequest): TranscriptEntry {
    const { model, plans, described } = columnsOf(request)
    const { backend, memoryBytes } = currentSettings(context)
    const id = newId('talk')
    const prompts = request.prompts.map(({ text }) => text)
    const title = request.title ?? ((prompts[0] as string).replace(/\s+/g, ' ').trim().slice(0, 80) || 'Untitled')
    history.transcripts.insert({
      id,
      title,
      prompts,
      columns: described,
      settings: request.settings,
      blind: request.blind,
      owner,
      createdAt: Date.now(),
    })
    const task = {
      model,
      columns: plans,
      prompts: request.prompts,
      settings: request.settings,
      backend,
      ...(memoryBytes === null ? {} : { memoryBytes }),
    }
    const job = playground.perform(
      { kind: 'generate', request: task },
      { onEvent: (event) => heard(id, event), onOutput: (chunk) => context.logs.append(id, chunk) },
    )
    sessions.set(id, job)
    void job.result.then(
      () => end(id, 'done', null),
      (thrown) => {
        const { code, message } = toErrorMessage(thrown)
        if (code === 'cancelled') return end(id, 'stopped', null)
        end(
          id,
          'failed',
          code === 'out-of-memory'
            ? `${message} Set a memory limit in the settings: weights that do not fit are then read block by block.`
            : message,
        )
      },
    )
    return told(id)
  }

  function heard(id: string, raw: unknown): void {
    const parsed = generationEvent.safeParse(raw)
    if (!parsed.success) {
      context.logs.append(id, `Unreadable event: ${parsed.error.message}\n`)
      return
    }
    const event: GenerationEvent = parsed.data
    emit({ name: 'generation', data: { session: id, event } })
    if (event.type !== 'answer') return
    const { type: _, ...answer } = event
    history.transcripts.addAnswer(id, answer)
  }

  function end(id: string, status: Transcript['status'], problem: string | null): void {
    sessions.delete(id)
    if (!history.db.open || !history.transcripts.find(id)) return
    history.transcripts.patch(id, { status, problem })
    told(id)
  }

  function told(id: string): TranscriptEntry {
    const transcript = entryOf(history.transcripts.find(id) as Transcript)
    emit({ name: 'transcript changed', data: { transcript } })
    return transcript
  }

  return {
    'playground.start': start,
    'playground.stop'({ id, column }) {
      const job = sessions.get(id)
      if (!job) throw new EspalierError('not-found', `The session ${id} has ended already.`)
      job.cancel(column)
      return {}
    },
    'playground.release'() {
      for (const job of sessions.values()) job.cancel()
      playground.release()
      return {}
    },
    'prompts.list': () => [paperSet, ...history.promptSets.list()],
    'prompts.save'({ name, prompts }) {
      if (name === paperSet.name) throw new EspalierError('invalid', 'This name belongs to a set that comes with Espalier. Choose another.')
      return history.promptSets.save(newId('prompts'), name, prompts, Date.now())
    },
    'prompts.remove'({ id }) {
      if (id === paperSet.id) throw new EspalierError('conflict', 'This set comes with Espalier and stays.')
      if (!history.promptSets.remove(id)) throw new EspalierError('not-found', `There is no prompt set ${id}.`)
      return {}
    },
  }
}

export function entryOf({ id, title, prompts, columns, status, blind, starred, tags, createdAt }: Transcript): TranscriptEntry {
  return { id, title, prompts, columns, status, blind, starred, tags, createdAt }
}
