/** Random bytes are drawn many at a time: one call costs more than the 16 bytes of an id. */

const pool = new Uint8Array(16 * 64);
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
let used = pool.length;

/** 128 random bits as 32 hexadecimal digits, as nginx's `$request_id`. */
export function newRequestId(): string {
  if (used === pool.length) {
    crypto.getRandomValues(pool);
    used = 0;
  }
  let id = "";
  for (const end = used + 16; used < end; used++) id += HEX[pool[used] as number];
  return id;
}
