/** How the windows of a run began; null for runs that read them as the 2SSP reference does. */
export const beginToken0018 = `
ALTER TABLE run_documents ADD COLUMN begin_token TEXT;
ALTER TABLE models ADD COLUMN begin_figures TEXT;
`
