/** The package brings no types. */
declare module "unix-crypt-td-js" {
  /** Traditional DES-based crypt(3): the whole hash, salt first. */
  const crypt: (password: string, salt: string) => string;
  // biome-ignore lint/style/noDefaultExport: the package is CommonJS with one export.
  export default crypt;
}
