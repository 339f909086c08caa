/** The kinds of repair, and what people call a run that had one. */
export const repairTitles = { 'one-pass': 'repaired in one pass', 'in-order': 'repaired in order' } as const

/** Windows that a repair is fitted on unless others are asked for. */
export const defaultRepairWindows = 64

/** The bundled text that a repair is fitted on unless another is asked for. */
export const defaultRepairText = 'mixed'
