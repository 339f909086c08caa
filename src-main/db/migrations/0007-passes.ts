/** How many windows passed through the model while candidates were scored. */
export const passes0007 = 'ALTER TABLE run_documents ADD COLUMN passes TEXT;'
