/** Types whose tables take ggml up to 10 s to prepare. A test leaves them out unless ESPALIER_TEST_EVERY_TYPE is set. */
export const slowTypes: readonly string[] = process.env.ESPALIER_TEST_EVERY_TYPE ? [] : ['IQ1_S', 'IQ1_M', 'IQ2_XS', 'IQ2_S']
