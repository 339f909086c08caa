/** Time limits fit a quiet machine. They are multiplied by this for a busy one. Only a failing test waits that long. */
export const patience = 4
