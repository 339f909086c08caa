/** Precisions that can be requested. This file has no schemas, so screens can import it. */
export const precisionNames = ['float32', 'auto', 'mixed', 'bfloat16'] as const

export const precisionTitles: Record<(typeof precisionNames)[number], string> = {
  float32: 'float32',
  auto: 'Mixed if supported',
  mixed: 'Mixed, choices checked in float32',
  bfloat16: 'bfloat16 (rough)',
}
