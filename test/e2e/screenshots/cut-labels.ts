import type { Page } from 'playwright-core'

/** Labels whose text does not fit and is not shown in full in a title, and heads that break within a word. */
export function findCutLabels(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const labels = [...document.querySelectorAll<HTMLElement>('main *, [role="dialog"] *, [role="menu"] *')]
    const hasText = (element: HTMLElement) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent?.trim())
    const isCut = (element: HTMLElement) => {
      const { overflowX, clip } = getComputedStyle(element)
      const hides = (overflowX === 'hidden' || overflowX === 'clip') && clip === 'auto'
      return (
        hides && element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1 && !element.closest('[title], .visually-hidden')
      )
    }
    const isBroken = (element: HTMLElement) =>
      [...element.childNodes].some((node) => {
        if (node.nodeType !== 3) return false
        return [...(node.textContent ?? '').matchAll(/[\p{L}\d]+/gu)].some(({ index, 0: word }) => {
          const range = document.createRange()
          range.setStart(node, index)
          range.setEnd(node, index + word.length)
          const tops = [...range.getClientRects()].map(({ top }) => Math.round(top))
          return Math.max(...tops) - Math.min(...tops) > 6
        })
      })
    const texts = labels.filter((element) => hasText(element) && element.getClientRects().length > 0)
    const cut = texts.filter((element) => element.tagName !== 'TEXTAREA' && isCut(element)).map((element) => `cut: ${element.textContent}`)
    const heads = texts.filter((element) => element.closest('th, dt, button, label, h1, h2, h3') && isBroken(element))
    return [...cut, ...heads.map((element) => `broken: ${element.textContent}`)].map((text) => text.replace(/\s+/g, ' ').slice(0, 70))
  })
}
