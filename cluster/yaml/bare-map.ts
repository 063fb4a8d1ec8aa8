/**
 * Maps whose keys come from outside.
 *
 * Keys such as `__proto__`, `constructor` or `toString` are ordinary keys here: the prototype is empty, so
 * nothing is inherited and nothing is polluted. Unlike `Object.create(null)` such an object stays in
 * V8's fast mode, which matters for half a million of them.
 */

/** A map from text to whatever a document holds. */
export type RawMap = Record<string, unknown>;

interface BareConstructor {
  new (): Record<string, never>;
  prototype: object;
}

const Bare = function (this: object) {} as unknown as BareConstructor;
Bare.prototype = Object.freeze(Object.create(null)) as object;

/** An empty map without inherited keys. */
export function bareMap<T>(): Record<string, T> {
  return new Bare() as Record<string, T>;
}

/** True for a JSON object or YAML mapping, false for lists, scalars and null. */
export function isRawMap(value: unknown): value is RawMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
