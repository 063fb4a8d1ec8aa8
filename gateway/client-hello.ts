/**
 * Which name a TLS client asks for, read from its first message without ending its TLS.
 *
 * In: the first bytes of a connection. Out: the server name of the ClientHello (RFC 6066 §3), lower case. The message may
 * come in several records and in any pieces (RFC 8446 §5.1). Not here: anything that needs a key.
 */

export type ClientHello =
  /** More bytes are needed. */
  | { readonly kind: "incomplete" }
  /** Not the beginning of TLS. */
  | { readonly kind: "other" }
  /** `serverName` is absent where the client sends none. */
  | { readonly kind: "hello"; readonly serverName?: string };

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
/** Post-quantum key shares make hellos of some kilobytes; nobody sends more than this. */
const MAX_HELLO_BYTES = 64 * 1024;
const OTHER: ClientHello = { kind: "other" };

/** Pure; ask again with more bytes where it is incomplete. */
export function readClientHello(bytes: Buffer): ClientHello {
  const message = joinRecords(bytes);
  if (message === undefined) return OTHER;
  if (message.length < 4) return { kind: "incomplete" };
  const length = message.readUIntBE(1, 3);
  if (message.readUInt8(0) !== CLIENT_HELLO || length > MAX_HELLO_BYTES) return OTHER;
  if (message.length < 4 + length) return { kind: "incomplete" };
  try {
    const serverName = serverNameOf(new Reader(message.subarray(4, 4 + length)));
    return serverName === undefined ? { kind: "hello" } : { kind: "hello", serverName };
  } catch (error) {
    if (error instanceof RangeError) return OTHER; // A length that leads beyond the end.
    throw error;
  }
}

/** What the handshake records hold so far, or undefined where some byte cannot be of one. */
function joinRecords(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] !== HANDSHAKE_RECORD) return isWhole(parts) ? Buffer.concat(parts) : undefined;
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) return undefined;
    if (bytes.length < at + 5) break;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0) return undefined;
    parts.push(bytes.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  return Buffer.concat(parts);
}

/** Whether the message is complete: then another kind of record (early data) may follow. */
function isWhole(parts: readonly Buffer[]): boolean {
  const message = Buffer.concat(parts);
  return message.length >= 4 && message.length >= 4 + message.readUIntBE(1, 3);
}

function serverNameOf(hello: Reader): string | undefined {
  hello.skip(2 + 32); // Version and random.
  hello.vector(1); // Session id.
  hello.vector(2); // Cipher suites.
  hello.vector(1); // Compression methods.
  if (hello.isAtEnd) return undefined;
  const extensions = hello.vector(2);
  while (!extensions.isAtEnd) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (type !== SERVER_NAME) continue;
    const names = body.vector(2);
    while (!names.isAtEnd) {
      const nameType = names.number(1);
      const name = names.vector(2);
      if (nameType === HOST_NAME) return name.text().toLowerCase();
    }
  }
  return undefined;
}

/** Walks through bytes; leaving them is a `RangeError`. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  skip(count: number): void {
    this.#at += count;
    if (this.#at > this.#bytes.length) throw new RangeError("A length leads beyond the end.");
  }

  number(width: number): number {
    const value = this.#bytes.readUIntBE(this.#at, width);
    this.skip(width);
    return value;
  }

  /** A vector whose length stands in front of it in `width` bytes. */
  vector(width: number): Reader {
    const length = this.number(width);
    const start = this.#at;
    this.skip(length);
    return new Reader(this.#bytes.subarray(start, start + length));
  }

  text(): string {
    return this.#bytes.toString("latin1");
  }
}
