import { denseMethod } from '#contract/titles.ts'
import { openSpec } from '#engine/model/model.ts'
import type { Method } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { findFormat } from './index.ts'

/** Throws what writing a method's plan of a model in a format would throw in the end; nothing is read but headers. */
export async function checkSave({ model, method: id, format }: { model: string; method: string; format: string }): Promise<void> {
  const { check } = findFormat(format)
  const method: Method | undefined = id === denseMethod ? undefined : findMethod(id)
  const { checkpoint, spec } = await openSpec(model)
  try {
    check?.({ spec, sliced: method?.unit === 'width' || spec.sliceWidth !== undefined })
  } finally {
    await checkpoint.close()
  }
}
