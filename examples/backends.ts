/**
 * The pods behind the examples: small HTTP servers on this machine that tell who answered and what they saw.
 * `manifests/services.yaml` names their ports.
 */

import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { join } from "node:path";
import { parse as parseYaml } from "yaml";

interface Pod {
  readonly name: string;
  readonly port: number;
  readonly tls?: true;
}

const PODS: readonly Pod[] = [
  { name: "service1-a", port: 28081 },
  { name: "service2-a", port: 28082 },
  { name: "service2-b", port: 28083 },
  { name: "service3-a", port: 28084 },
  { name: "service-tls-a", port: 28443, tls: true },
];

/** Starts all of them. Rejects when a port is taken. */
export async function startBackends(): Promise<{ readonly close: () => Promise<void> }> {
  const servers: Server[] = [];
  const close = async (): Promise<void> => {
    for (const server of servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  };
  try {
    for (const pod of PODS) servers.push(await listen(pod));
  } catch (error) {
    await close();
    throw error;
  }
  return { close };
}

function listen({ name, port, tls }: Pod): Promise<Server> {
  const answer: RequestListener = (request, response) => {
    request.resume();
    request.on("end", () => {
      const headers = Object.entries(request.headers).map(([key, value]) => `${key}: ${String(value)}`);
      const lines = [`pod: ${name}`, `${request.method} ${request.url}`, ...headers];
      // Slow on demand, so that requests can be in flight together.
      const wait = request.url?.startsWith("/slow") ? 1000 : 0;
      setTimeout(() => response.end(`${lines.join("\n")}\n`), wait);
    });
  };
  const server = tls ? createTlsServer(exampleCertificate(), answer) : createServer(answer);
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new Error(`the example pod ${name} needs port ${port} of 127.0.0.1, which another program has`)
          : error,
      );
    });
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

/** The one of the SSL termination example: pods' certificates are not verified unless `proxy-ssl-verify` asks for it. */
function exampleCertificate(): { readonly cert: Buffer; readonly key: Buffer } {
  const text = readFileSync(join(import.meta.dirname, "manifests", "04-ssl-termination.yaml"), "utf8");
  const { data } = parseYaml(text.split("---\n")[0] ?? "") as {
    readonly data: Readonly<Record<string, string>>;
  };
  const decode = (name: string): Buffer => Buffer.from(data[name] ?? "", "base64");
  return { cert: decode("tls.crt"), key: decode("tls.key") };
}
