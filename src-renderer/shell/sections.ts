import { type ScreenId, screenTitles } from '#contract/titles.ts'

const keys: Readonly<Record<ScreenId, string>> = {
  models: 'm',
  new: 'n',
  experiments: 'e',
  runs: 'r',
  compare: 'c',
  broke: 'b',
  playground: 'p',
  judge: 'j',
  settings: 's',
}

/** The screens. Pressing `g` and then `key` opens one. */
export const sections = (Object.keys(screenTitles) as ScreenId[]).map((id) => ({ id, title: screenTitles[id], key: keys[id] }))

/** Whether a key press is text input rather than a shortcut. */
export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
}
