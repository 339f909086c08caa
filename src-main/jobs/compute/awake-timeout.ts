/** A timer that is this late means that this process was stopped. */
export const stoppedMilliseconds = 5000

/** A timeout that begins again if this process was stopped meanwhile, for example while the computer slept. */
export class AwakeTimeout {
  #timer: NodeJS.Timeout | undefined

  constructor(callback: () => void, milliseconds: number) {
    this.#arm(callback, milliseconds)
  }

  clear(): void {
    clearTimeout(this.#timer)
  }

  #arm(callback: () => void, milliseconds: number): void {
    const due = performance.now() + milliseconds
    this.#timer = setTimeout(() => {
      if (performance.now() - due > stoppedMilliseconds) this.#arm(callback, milliseconds)
      else callback()
    }, milliseconds)
  }
}
