/** A client that reads from KV and writes nowhere: what would be written is told, and read back from memory. */

import type { KvClient } from "./client.ts";

export function createDryRunClient(client: KvClient, tell: (sentence: string) => void): KvClient {
  const written = new Map<string, string | undefined>();
  const write = (key: string, value: string): void => {
    written.set(key, value);
    tell(`dry run: ${key} would be written, ${value.length} bytes.`);
  };
  return {
    get: async (key) => (written.has(key) ? written.get(key) : client.get(key)),
    put: async (key, value) => write(key, value),
    putAll: async (pairs) => {
      for (const [key, value] of pairs) write(key, value);
    },
    deleteAll: async (keys) => {
      for (const key of keys) {
        written.set(key, undefined);
        tell(`dry run: ${key} would be deleted.`);
      }
    },
    list: async (prefix) => {
      const names = new Set(await client.list(prefix));
      for (const [key, value] of written) {
        if (value === undefined) names.delete(key);
        else if (key.startsWith(prefix)) names.add(key);
      }
      return [...names];
    },
  };
}
