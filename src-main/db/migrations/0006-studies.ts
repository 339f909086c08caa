/** An ablation's table and plot. */
export const studies0006 = `
ALTER TABLE run_documents ADD COLUMN study TEXT;
`
