/**
 * Every supported model family by the `model_type` of its config: title and well-known models. The engine's tables have exactly these keys.
 */
export const families = {
  llama: { title: 'Llama', examples: 'Llama 2, 3, 3.1, 3.2 and 3.3, SmolLM 1 and 2, TinyLlama, DeepSeek-R1-Distill-Llama' },
  mistral: { title: 'Mistral', examples: 'Mistral 7B, Mistral Nemo, Mistral Small 24B (2501)' },
  qwen2: { title: 'Qwen2', examples: 'Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen' },
  qwen3: { title: 'Qwen3', examples: 'Qwen3 0.6B to 32B, DeepSeek-R1-0528-Qwen3-8B' },
  qwen3_5_text: { title: 'Qwen3.5', examples: 'text models made from Qwen3.5' },
  qwen3_5: { title: 'Qwen3.5 with images, its text part', examples: 'Qwen3.5 0.8B to 27B' },
  gemma2: { title: 'Gemma 2', examples: 'Gemma 2 2B, 9B and 27B' },
  gemma3_text: { title: 'Gemma 3', examples: 'Gemma 3 270M and 1B' },
  gemma3: { title: 'Gemma 3 with images, its text part', examples: 'Gemma 3 4B, 12B and 27B' },
  smollm3: { title: 'SmolLM3', examples: 'SmolLM3-3B' },
  olmo2: { title: 'OLMo 2', examples: 'OLMo 2 1B, 7B, 13B and 32B' },
  olmo3: { title: 'OLMo 3', examples: 'OLMo 3 7B and 32B' },
  granite: { title: 'Granite', examples: 'Granite 3.0 to 3.3 2B and 8B' },
  phi3: { title: 'Phi-3', examples: 'Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini' },
  phi: { title: 'Phi', examples: 'Phi-1, 1.5 and 2' },
} as const

export type FamilyId = keyof typeof families
