/** The windows used for calibration and measuring; null for older runs. */
export const usedData0003 = `
ALTER TABLE run_documents ADD COLUMN calibration TEXT;
ALTER TABLE run_documents ADD COLUMN evaluation TEXT;
`
