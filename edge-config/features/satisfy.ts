/** `satisfy any`: one of address, password and auth service is enough. Absent: all are asked. */
export interface SatisfyPolicy {
  readonly mode: "any";
}
