/** What a recovery did: its text, its measurements, and which of them gave the weights. */
export const recovery0013 = 'ALTER TABLE run_documents ADD COLUMN recovery TEXT;'
