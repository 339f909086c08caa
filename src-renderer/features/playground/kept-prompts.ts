import { type GenerationSettings, generationSettings } from '#contract/playground/generation-settings.ts'
import { keepInTab, keptInTab } from '../../lib/tab-storage.ts'

const promptsKey = 'espalier prompts'

export const keptPrompts = {
  get(): string[] {
    const kept = keptInTab(promptsKey)
    return Array.isArray(kept) && kept.length > 0 && kept.every((prompt) => typeof prompt === 'string') ? kept : ['']
  },
  set: (prompts: readonly string[]): void => keepInTab(promptsKey, prompts),
}

/** The settings that do not follow from the model, and `decoding` only if the user chose it. */
export type KeptSampling = Partial<Pick<GenerationSettings, 'decoding' | 'maxTokens' | 'maxLength' | 'seed'>>

const samplingKey = 'espalier sampling'
const kept = generationSettings.pick({ decoding: true, maxTokens: true, maxLength: true, seed: true })

export const keptSampling = {
  /** The settings that were left beside this transcript, or beside none; null if there are none. */
  get(transcript: string | undefined): KeptSampling | null {
    const found = keptInTab(samplingKey)
    if (typeof found !== 'object' || found === null || !('settings' in found) || !('transcript' in found)) return null
    const { success, data } = kept.safeParse(found.settings)
    if (!success || (transcript !== undefined && transcript !== found.transcript)) return null
    const { decoding, ...rest } = data
    return 'decoding' in (found.settings as object) ? { decoding, ...rest } : rest
  },
  set: (settings: KeptSampling, transcript: string | undefined): void =>
    keepInTab(samplingKey, { settings, transcript: transcript ?? null }),
}
