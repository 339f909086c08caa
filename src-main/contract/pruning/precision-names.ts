/** Precisions that can be asked for, and what they mean; free of schemas, so that screens can read it. */
export const precisionNames = ['float32', 'auto', 'mixed', 'bfloat16'] as const

/** The precisions as people read them. */
export const precisionTitles: Record<(typeof precisionNames)[number], string> = {
  float32: 'float32',
  auto: 'mixed where the processor can',
  mixed: 'mixed, choices certified in float32',
  bfloat16: 'bfloat16, a first look',
}
