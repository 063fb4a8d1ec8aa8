/**
 * The servers of a running HAProxy, changed by its runtime API without a reload: new ones are added, those that are gone
 * get no new connections and are deleted once their last one has ended.
 *
 * What is there is read from HAProxy before and after, never remembered. `add server` wants 2.5 or later and a dynamic
 * algorithm such as roundrobin (management guide).
 */

import type { HaproxyMaster } from "./master.ts";
import type { TcpBackend } from "./tcp.ts";

/** False: HAProxy does not have them all the same; a reload brings them. */
export async function setServers(
  master: Pick<HaproxyMaster, "askWorker">,
  backends: readonly TcpBackend[],
): Promise<boolean> {
  for (const command of commandsFor(backends, await readServers(master))) await master.askWorker(command);
  const after = await readServers(master);
  return backends.every(({ name, servers }) => {
    const ready = [...(after.get(name) ?? [])].filter(([, state]) => state === "ready");
    return (
      ready.length === servers.length &&
      servers.every((server) => after.get(name)?.get(server.name) === "ready")
    );
  });
}

/** By backend and name. One in maintenance gets no new connections. */
type Servers = ReadonlyMap<string, ReadonlyMap<string, "ready" | "maintenance">>;

function* commandsFor(backends: readonly TcpBackend[], present: Servers): Generator<string> {
  for (const { name, servers } of backends) {
    const there = present.get(name);
    // What comes stands before what goes: a backend is never empty in between.
    for (const { name: server, parameters } of servers) {
      const state = there?.get(server);
      if (state === undefined) yield `add server ${name}/${server} ${parameters}`;
      if (state !== "ready") yield `set server ${name}/${server} state ready`;
    }
    const wanted = new Set(servers.map((server) => server.name));
    for (const [server, state] of there ?? []) {
      if (wanted.has(server)) continue;
      if (state === "ready") yield `set server ${name}/${server} state maint`;
      // Refused while it has connections; the next change tries again.
      yield `del server ${name}/${server}`;
    }
  }
}

/** `show servers state`: a version, a line of column names after `#`, then a server a line. */
async function readServers({ askWorker }: Pick<HaproxyMaster, "askWorker">): Promise<Servers> {
  const [, head = "", ...lines] = (await askWorker("show servers state")).trim().split("\n");
  const columns = head.split(" ").slice(1);
  const [backend, server, state] = ["be_name", "srv_name", "srv_admin_state"].map((name) =>
    columns.indexOf(name),
  );
  if (backend === undefined || server === undefined || state === undefined || state < 0)
    throw new Error(`HAProxy answered ${JSON.stringify(head)} to \`show servers state\``);
  const found = new Map<string, Map<string, "ready" | "maintenance">>();
  for (const line of lines) {
    const words = line.split(" ");
    const name = words[backend] ?? "";
    const servers = found.get(name) ?? new Map<string, "ready" | "maintenance">();
    found.set(name, servers);
    servers.set(words[server] ?? "", words[state] === "0" ? "ready" : "maintenance");
  }
  return found;
}
