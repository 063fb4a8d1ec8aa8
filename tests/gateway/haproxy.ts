/** The real `haproxy` with the configuration that `fairlead gateway render` writes. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { parseTokenKeys } from "../../edge-config/gateway-token.ts";
import { renderHaproxy } from "../../gateway/haproxy/render.ts";
import { writeFiles } from "../../gateway/haproxy/write.ts";
import { freePorts } from "../free-ports.ts";
import type { GatewayOptions, RunningGateway } from "./implementations.ts";
import { startNameServer } from "./name-server.ts";

export const haveHaproxy = spawnSync("haproxy", ["-v"]).status === 0;

export async function startHaproxy(options: GatewayOptions): Promise<RunningGateway> {
  const folder = await mkdtemp(join(tmpdir(), "fairlead-haproxy-"));
  const nameServer = await startNameServer();
  const cleanUp = async (): Promise<void> => {
    await nameServer.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const [port, healthPort] = await freePorts(2);
    const files = renderHaproxy({
      ...options,
      keys: parseTokenKeys(options.keys),
      listen: `127.0.0.1:${port}`,
      healthListen: `127.0.0.1:${healthPort}`,
      nameservers: [`127.0.0.1:${nameServer.port}`],
      drainSeconds: 1,
      maxConnections: 200,
      maxHeadKibibytes: 32,
      tcpServices: [],
      folder,
    });
    await writeFiles(folder, files);
    const running = await startRendered(folder);
    return {
      url: `http://127.0.0.1:${port}`,
      close: async () => {
        await running.close();
        await cleanUp();
      },
    };
  } catch (error) {
    await cleanUp();
    throw error;
  }
}

export interface RunningHaproxy {
  /** Reads everything anew, as after a rendering; connections under way go on. */
  readonly reload: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Runs what was rendered into `folder`. Rejects with what HAProxy said when it ends instead of listening. */
export async function startRendered(folder: string, ...flags: readonly string[]): Promise<RunningHaproxy> {
  const child = spawn("haproxy", ["-W", "-db", ...flags, "-f", join(folder, "haproxy.cfg")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stderr });
  await listening(child, lines);
  return {
    reload: async () => {
      const again = listening(child, lines);
      // A master that has only just started its workers forgets a signal.
      const asking = setInterval(() => child.kill("SIGUSR2"), 500);
      lines.once("line", () => clearInterval(asking));
      child.kill("SIGUSR2");
      await again;
    },
    close: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function listening(child: ChildProcess, lines: Interface): Promise<void> {
  const said: string[] = [];
  await new Promise<void>((resolve, reject) => {
    lines.on("line", (line) => {
      said.push(line);
      if (line.includes("Loading success")) resolve();
    });
    child.once("exit", () => reject(new Error(`haproxy ended: ${said.join("\n")}`)));
  });
}
