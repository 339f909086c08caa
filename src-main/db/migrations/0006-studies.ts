/** What an ablation found: its table and its plot. */
export const studies0006 = `
ALTER TABLE run_documents ADD COLUMN study TEXT;
`
