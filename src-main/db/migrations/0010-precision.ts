/** How products were computed, and what certifies choices among estimated scores. */
export const precision0010 = `
ALTER TABLE run_documents ADD COLUMN precision TEXT;
ALTER TABLE run_documents ADD COLUMN certified TEXT;
`
