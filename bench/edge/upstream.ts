/** A pod as quick as can be: answers every request with the same few bytes, without looking at it. Prints its port. */

import type { AddressInfo } from "node:net";
import { createServer } from "node:net";

const ANSWER = Buffer.from(
  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
);

const server = createServer((socket) => {
  socket.setNoDelay(true);
  socket.on("error", () => {});
  socket.on("data", () => socket.write(ANSWER)); // A GET of this benchmark always comes in one piece.
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
