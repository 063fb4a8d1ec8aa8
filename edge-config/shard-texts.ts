/**
 * The texts of shards by name, made when they are asked for. A publication asks for the few that KV lacks; all of them kept
 * would be a second copy of the whole configuration, of which a part is made anew with every change.
 */

import { encodeShard, type ShardName } from "./shard.ts";

type Records = Parameters<typeof encodeShard>[0];

export class ShardTexts implements ReadonlyMap<ShardName, string> {
  readonly #records: ReadonlyMap<ShardName, Records>;

  constructor(records: ReadonlyMap<ShardName, Records>) {
    this.#records = records;
  }

  get size(): number {
    return this.#records.size;
  }

  has(name: ShardName): boolean {
    return this.#records.has(name);
  }

  get(name: ShardName): string | undefined {
    const records = this.#records.get(name);
    return records === undefined ? undefined : encodeShard(records);
  }

  forEach(callback: (text: string, name: ShardName, map: ReadonlyMap<ShardName, string>) => void): void {
    for (const [name, text] of this) callback(text, name, this);
  }

  keys(): MapIterator<ShardName> {
    return this.#records.keys();
  }

  *values(): MapIterator<string> {
    for (const records of this.#records.values()) yield encodeShard(records);
  }

  *entries(): MapIterator<[ShardName, string]> {
    for (const [name, records] of this.#records) yield [name, encodeShard(records)];
  }

  [Symbol.iterator](): MapIterator<[ShardName, string]> {
    return this.entries();
  }
}
