import type { Attachment } from 'svelte/attachments'
import { desktop } from '../api/api.ts'

/** An entry of a menu. */
interface Entry {
  label: string
  onselect: () => void
  disabled?: boolean
}

/**
 * Gives an element a menu for the right mouse button: the system's, so only in the desktop window. In a browser, and in fields and selected
 * text, the usual menu appears.
 */
export function contextMenu(entries: () => readonly Entry[]): Attachment<HTMLElement | SVGElement> {
  return (element) => {
    const system = desktop
    if (!system) return
    const show = (event: Event) => {
      const isText =
        (event.target as Element).closest('input:not([type="checkbox"]), textarea, select') || getSelection()?.isCollapsed === false
      const items = entries()
      if (isText || items.length === 0) return
      event.preventDefault()
      event.stopPropagation()
      const shown = items.map(({ label, disabled = false }) => ({ label, disabled }))
      system.showMenu(shown).then(
        (chosen) => chosen !== null && items[chosen]?.onselect(),
        () => undefined,
      )
    }
    element.addEventListener('contextmenu', show)
    return () => element.removeEventListener('contextmenu', show)
  }
}
