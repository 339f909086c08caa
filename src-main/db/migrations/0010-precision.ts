/** How products were computed, and the certification of choices among estimated scores. */
export const precision0010 = `
ALTER TABLE run_documents ADD COLUMN precision TEXT;
ALTER TABLE run_documents ADD COLUMN certified TEXT;
`
