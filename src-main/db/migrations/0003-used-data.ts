/** The windows that a run was calibrated and measured on. Runs from before do not say. */
export const usedData0003 = `
ALTER TABLE run_documents ADD COLUMN calibration TEXT;
ALTER TABLE run_documents ADD COLUMN evaluation TEXT;
`
