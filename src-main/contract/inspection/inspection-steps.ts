/** Returns the label of the step that holds a page of tokens. */
export const pageStep = (page: number): string => `page ${page}`
