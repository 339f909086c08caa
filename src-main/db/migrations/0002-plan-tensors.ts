/** Tensor files of steps and plans: JSON with name, bytes and SHA-256; a list of them for a plan. */
export const planTensors0002 = `
ALTER TABLE steps ADD COLUMN tensors TEXT;
ALTER TABLE run_documents ADD COLUMN tensors TEXT;
`
