import { toErrorMessage } from '#contract/errors.ts'
import { ggmlDevices } from '#engine/backend/ggml/ggml-devices.ts'

// Prints the names of ggml's devices, or why there are none. A process can load these libraries from one folder only.
try {
  console.log(
    ggmlDevices()
      .map(({ name }) => name)
      .join(),
  )
} catch (thrown) {
  console.log(toErrorMessage(thrown).message)
}
