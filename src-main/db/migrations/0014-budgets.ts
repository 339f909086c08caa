/** What a run with a budget asked for and what it got. */
export const budgets0014 = 'ALTER TABLE run_documents ADD COLUMN budget TEXT;'
