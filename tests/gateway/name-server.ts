/** A DNS server on loopback that knows one name: `localhost` is 127.0.0.1, and nothing else exists (RFC 1035). */

import { createSocket } from "node:dgram";

const ANSWER = 0x8180;
const NO_SUCH_NAME = 0x8183;
const TYPE_A = 1;

export async function startNameServer(): Promise<{
  readonly port: number;
  readonly close: () => Promise<void>;
}> {
  const socket = createSocket("udp4");
  socket.on("message", (query, sender) => socket.send(answerTo(query), sender.port, sender.address));
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    port: socket.address().port,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}

function answerTo(query: Buffer): Buffer {
  const nameEnd = query.indexOf(0, 12) + 1;
  const question = query.subarray(12, nameEnd + 4);
  const known = query.subarray(12, nameEnd).toString("latin1").toLowerCase() === "\tlocalhost\0";
  const answers = known && query.readUInt16BE(nameEnd) === TYPE_A ? 1 : 0;
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(known ? ANSWER : NO_SUCH_NAME, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers, 6);
  // Name (a pointer to the question's), type A, class IN, 5 s, 4 bytes.
  const record = Buffer.from([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
  return Buffer.concat(answers === 1 ? [head, question, record] : [head, question]);
}
