/** What is used of modules that bring no types into this runtime: workerd has node:crypto, but not Node's types. */

declare module "unix-crypt-td-js" {
  /** Traditional DES-based crypt(3): the whole hash, salt first. */
  const crypt: (password: string, salt: string) => string;
  // biome-ignore lint/style/noDefaultExport: the package is CommonJS with one export.
  export default crypt;
}

declare module "node:crypto" {
  interface Hash {
    update(data: string | Uint8Array): Hash;
    digest(): Uint8Array;
    digest(encoding: "base64" | "hex"): string;
  }
  export function createHash(algorithm: "md5" | "sha1" | "sha256"): Hash;
  export function timingSafeEqual(a: Uint8Array, b: Uint8Array): boolean;
}
