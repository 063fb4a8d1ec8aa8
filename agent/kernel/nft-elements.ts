/** Single elements of maps, as the kernel holds them. */

import { runCommand } from "./command.ts";
import { type NftOptions, type NftTable, nftError } from "./nft.ts";

const TIMEOUT_MS = 30_000;

/**
 * The elements of a map under these keys, each as `nft -nn` prints it. Keys that are not there are left out; for that each
 * is asked for alone when asking for all at once fails.
 */
export async function getElements(
  table: NftTable,
  map: string,
  keys: readonly string[],
  options: NftOptions = {},
): Promise<readonly string[]> {
  if (keys.length === 0) return [];
  const all = await get(table, map, keys, options);
  if (all !== undefined) return all;
  if (keys.length === 1) return [];
  const found: string[] = [];
  for (const key of keys) found.push(...((await get(table, map, [key], options)) ?? []));
  return found;
}

async function get(
  { family, name }: NftTable,
  map: string,
  keys: readonly string[],
  options: NftOptions,
): Promise<readonly string[] | undefined> {
  const result = await runCommand(
    "nft",
    ["-nn", "get", "element", family, name, map, `{ ${keys.join(", ")} }`],
    { timeoutMs: TIMEOUT_MS, ...options },
  );
  if (result.code !== 0) {
    if (result.errors.includes("No such file or directory")) return undefined;
    throw nftError(result, []);
  }
  const body = /elements = \{([^}]*)\}/.exec(result.output)?.[1] ?? "";
  // A comment may hold commas, never a line break; each element of a long list has a line of its own, but short ones share.
  return body
    .split(/,(?=(?:[^"]*"[^"]*")*[^"]*$)/)
    .map((element) => element.trim())
    .filter((element) => element !== "");
}
