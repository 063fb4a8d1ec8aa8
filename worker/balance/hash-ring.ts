/**
 * Consistent hashing over a ring (Karger et al. 1997; ketama): a member that leaves moves only its own share of keys.
 *
 * Each member stands at many points; a key belongs to the member of the first point at or after its own hash. The
 * number of points is bounded, so that a thousand members cost a few milliseconds once and well under a microsecond
 * a look-up.
 */

const MAX_POINTS = 65_536;
const POINTS_OF_ONE = 160;

export interface HashRing {
  /** Index of the member that a key belongs to, passing over those for whom `isOut` holds. `undefined`: all are out. */
  readonly find: (key: string, isOut?: (member: number) => boolean) => number | undefined;
}

/** `names`: what a member's points are computed from, so that it stands at the same places wherever it is listed. */
export function hashRing(names: readonly string[]): HashRing {
  const each = Math.max(16, Math.min(POINTS_OF_ONE, Math.floor(MAX_POINTS / Math.max(1, names.length))));
  // Hash in the upper 32 bits and member in the lower 21: one sort of numbers does both.
  const points = new Float64Array(names.length * each);
  names.forEach((name, member) => {
    for (let copy = 0; copy < each; copy++)
      points[member * each + copy] = hash32(`${name}#${copy}`) * MEMBERS + member;
  });
  points.sort();
  return {
    find(key, isOut) {
      const count = points.length;
      if (count === 0) return undefined;
      const from = hash32(key) * MEMBERS;
      let low = 0;
      let high = count;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((points[middle] as number) < from) low = middle + 1;
        else high = middle;
      }
      for (let step = 0; step < count; step++) {
        const point = points[low + step < count ? low + step : low + step - count] as number;
        const member = point % MEMBERS;
        if (isOut === undefined || !isOut(member)) return member;
      }
      return undefined;
    },
  };
}

const MEMBERS = 2 ** 21;

/** FNV-1a with MurmurHash3's finaliser: FNV alone leaves texts that differ in their last byte next to each other. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++)
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
