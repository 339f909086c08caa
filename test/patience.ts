/** Limits of time are those of a quiet machine; a busy one gets this many times as long. Only a test that fails waits for it. */
export const patience = 4
