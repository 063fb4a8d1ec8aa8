/**
 * A connection to the Worker's own socket, for the fronts.
 *
 * The Worker may answer before it has read all of a body (413, 401), and workerd then closes at once. A write that comes too
 * late fails, and an ordinary socket of Node would be destroyed by that together with the answer that lies there unread.
 * Here such a write is dropped and reading goes on to the end; so the front also reads the rest of the body from the client,
 * which is what servers do before they close on somebody who is still sending (RFC 9112 §9.6).
 */

import { Socket } from "node:net";

type Written = (error?: Error | null) => void;

class WorkerSocket extends Socket {
  override _write(chunk: unknown, encoding: BufferEncoding, written: Written): void {
    super._write(chunk, encoding, () => written());
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], written: Written): void {
    super._writev?.(chunks, () => written());
  }
}

export function connectToWorker(port: number): Socket {
  const socket = new WorkerSocket({ allowHalfOpen: true });
  socket.setNoDelay(true);
  return socket.connect(port, "127.0.0.1");
}
