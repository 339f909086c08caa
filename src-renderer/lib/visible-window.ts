/** Rows are added and removed in steps of this many, so that not every pixel of scrolling changes the table. */
const step = 4

/** Which of the equally high rows to draw: those in view and `margin` on either side. */
export function visibleWindow(
  scrollTop: number,
  height: number,
  rowHeight: number,
  total: number,
  margin: number,
): { from: number; to: number } {
  const first = Math.floor(scrollTop / rowHeight / step) * step - margin
  const last = Math.ceil((scrollTop + height) / rowHeight / step) * step + margin
  return { from: Math.min(Math.max(0, first), Math.max(0, total - 1)), to: Math.min(total, last) }
}
