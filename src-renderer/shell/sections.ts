/** The screens in the order of the main path; `key` follows `g` on the keyboard. */
export const sections = [
  { id: 'models', title: 'Models', key: 'm' },
  { id: 'new', title: 'New experiment', key: 'n' },
  { id: 'experiments', title: 'Experiments', key: 'e' },
  { id: 'runs', title: 'Runs', key: 'r' },
  { id: 'compare', title: 'Compare', key: 'c' },
  { id: 'broke', title: 'What broke', key: 'b' },
  { id: 'playground', title: 'Playground', key: 'p' },
  { id: 'judge', title: 'Judge', key: 'j' },
  { id: 'settings', title: 'Settings', key: 's' },
] as const

/** Whether a key press belongs to what is being typed rather than to the workbench. */
export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
}
