/** Windows that went through an attention, an MLP, the head. */
export interface PassCount {
  attention: number
  mlp: number
  head: number
}
