/** True when the NAT compiler's WASM module is there and as new as its sources. What is missing for it has been said. */
export function buildWasmModule(): Promise<boolean>;
