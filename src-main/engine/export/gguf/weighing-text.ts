import type { DataRequest } from '#contract/data/data-request.ts'

/** The phase of a run that measures importances. */
export const weighingPhase = 'weighing columns'

/** Most tokens that importances are measured on. Their mean squares hardly change with more. */
const mostTokens = 65_536
const usualText: DataRequest = { source: 'mixed', sequenceLength: 512 }

/** The text that a quantised file's importances are measured on: the calibration's, else the bundled one. */
export function weighingText(calibration: DataRequest = usualText, contextLength: number): DataRequest {
  const sequenceLength = Math.min(calibration.sequenceLength, contextLength)
  const most = Math.max(1, Math.floor(mostTokens / sequenceLength))
  return { ...calibration, sequenceLength, windows: Math.min(calibration.windows ?? most, most) }
}
