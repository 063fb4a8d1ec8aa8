import { expect, test } from "vitest";
import { serveHttp } from "./http-server.ts";

const answer = () => ({ status: 200, headers: {}, body: "here" });

test("`::` is everywhere, IPv4 included, unless IPv6 alone is meant", async () => {
  const everywhere = await serveHttp({ host: "::", port: 0 }, answer);
  const alone = await serveHttp({ host: "::", port: 0, ipv6Only: true }, answer);
  try {
    for (const host of ["127.0.0.1", "[::1]"])
      expect(await (await fetch(`http://${host}:${everywhere.port}/`)).text()).toBe("here");
    expect((await fetch(`http://[::1]:${alone.port}/`)).status).toBe(200);
    await expect(fetch(`http://127.0.0.1:${alone.port}/`)).rejects.toThrow();
  } finally {
    await Promise.all([everywhere.close(), alone.close()]);
  }
});
