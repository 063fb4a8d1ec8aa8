/**
 * A WebSocket that passes through here message by message, so that its end is seen.
 *
 * In: a pod's 101. Out: the client's, and a word when either side has closed. The runtime joins two sockets by itself,
 * and better: so this is only for routes that must know how long one is open (limits on connections).
 */

/** RFC 6455 §7.4.1: what stands in for "no code" and "no Close frame", and is never sent. */
const [NO_CODE, NO_CLOSE_FRAME] = [1005, 1006];

/** `onEnd` is called once. The answer itself where it carries no WebSocket; then nothing is told. */
export function relayed(answer: Response, onEnd: () => void): Response {
  const pod = answer.webSocket;
  if (pod === null) return answer;
  const { 0: client, 1: edge } = new WebSocketPair();
  let isOver = false;
  const end = (): void => {
    if (isOver) return;
    isOver = true;
    onEnd();
  };
  join(pod, edge, end);
  join(edge, pod, end);
  const headers = new Headers(answer.headers);
  headers.delete("Sec-WebSocket-Extensions"); // What was agreed with the pod; with the client the runtime agrees anew.
  return new Response(null, { status: 101, headers, webSocket: client });
}

/** What comes from one side goes to the other, its end as well. */
function join(from: WebSocket, to: WebSocket, onEnd: () => void): void {
  from.accept();
  from.binaryType = "arraybuffer";
  from.addEventListener("message", ({ data }) => {
    if (to.readyState === WebSocket.OPEN) to.send(data);
  });
  from.addEventListener("close", ({ code, reason }) => {
    if (to.readyState === WebSocket.OPEN) {
      if (code === NO_CODE || code === NO_CLOSE_FRAME) to.close();
      else to.close(code, reason);
    }
    onEnd();
  });
  from.addEventListener("error", () => {
    if (to.readyState === WebSocket.OPEN) to.close();
    onEnd();
  });
}
