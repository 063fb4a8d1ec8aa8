/**
 * What the Worker and its packages use of node:crypto, looked up at the first call: an import would load the module
 * into every new isolate, which costs it more than all else that it must load, and few ever hash anything.
 *
 * Packages get this file in place of `crypto` and `node:crypto` by an alias where the Worker is bundled
 * (`wrangler.toml`, `cli/dev/worker-bundle.ts`).
 */

interface Hash {
  update(data: string | Uint8Array): Hash;
  digest(): Uint8Array;
  digest(encoding: "base64" | "hex"): string;
}

interface NodeCrypto {
  createHash(algorithm: "md5" | "sha1" | "sha256"): Hash;
  timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean;
  randomInt(min: number, max: number): number;
  randomBytes(size: number): Uint8Array;
}

/** workerd has it, but its types do not come with Workers' own. */
declare const process: { getBuiltinModule(name: "node:crypto"): NodeCrypto };

let loaded: NodeCrypto | undefined;

function nodeCrypto(): NodeCrypto {
  loaded ??= process.getBuiltinModule("node:crypto");
  return loaded;
}

export const createHash: NodeCrypto["createHash"] = (algorithm) => nodeCrypto().createHash(algorithm);
export const timingSafeEqual: NodeCrypto["timingSafeEqual"] = (a, b) => nodeCrypto().timingSafeEqual(a, b);
export const randomInt: NodeCrypto["randomInt"] = (min, max) => nodeCrypto().randomInt(min, max);
export const randomBytes: NodeCrypto["randomBytes"] = (size) => nodeCrypto().randomBytes(size);

// biome-ignore lint/style/noDefaultExport: `bcryptjs` imports the module whole.
export default { randomBytes };
