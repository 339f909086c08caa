import type { DataRequest } from '#contract/data/data-request.ts'

/** The phase of a run that measures importances. */
export const weighingPhase = 'weighing columns'

/** The maximum number of tokens that importances are measured on. More tokens hardly change the mean squares. */
const mostTokens = 65_536
const usualText: DataRequest = { source: 'mixed', sequenceLength: 512 }

/** The text that the importances for a quantised file are measured on: the calibration text, or else the bundled one. */
export function weighingText(calibration: DataRequest = usualText, contextLength: number): DataRequest {
  const sequenceLength = Math.min(calibration.sequenceLength, contextLength)
  const most = Math.max(1, Math.floor(mostTokens / sequenceLength))
  return { ...calibration, sequenceLength, windows: Math.min(calibration.windows ?? most, most) }
}
