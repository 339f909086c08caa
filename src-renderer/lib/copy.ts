import { copyText } from '../api/api.ts'
import { notify, notifyProblem } from './notices.svelte.ts'

/** Copies a text to the clipboard, and says so. */
export const copy = (text: string): void => void copyText(text).then(() => notify('Copied.'), notifyProblem)
