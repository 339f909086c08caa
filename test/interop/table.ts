/** Prints each check as it is made, and counts those that passed. */
export class Table {
  passed = 0
  failed = 0

  title(text: string): void {
    console.log(`\n${text}`)
  }

  /** One check: the name, the measured figure and its limit. */
  add(what: string, found: number, most: number, more = ''): void {
    const holds = found <= most
    this.#count(holds)
    console.log(`  ${holds ? 'ok  ' : 'FAIL'} ${what.padEnd(44)} ${found.toExponential(1)} of ${most.toExponential(0)} ${more}`)
  }

  /** A check without a figure: it passes, or fails with a sentence. */
  state(what: string, problem: string | undefined): void {
    this.#count(problem === undefined)
    console.log(`  ${problem === undefined ? 'ok  ' : 'FAIL'} ${what.padEnd(44)} ${problem ?? ''}`)
  }

  /** A check that was skipped, and why. */
  note(what: string, why: string): void {
    console.log(`  --   ${what.padEnd(44)} ${why}`)
  }

  end(): void {
    console.log(`\n${this.passed} passed, ${this.failed} failed`)
  }

  #count(holds: boolean): void {
    if (holds) this.passed++
    else this.failed++
  }
}
