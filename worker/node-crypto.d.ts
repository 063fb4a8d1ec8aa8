/** What the Worker uses of node:crypto. workerd has the module, but its types do not come with Workers' own. */
declare module "node:crypto" {
  interface Hash {
    update(data: string | Uint8Array): Hash;
    digest(): Uint8Array;
    digest(encoding: "base64" | "hex"): string;
  }
  export function createHash(algorithm: "md5" | "sha1" | "sha256"): Hash;
  export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean;
}
